//! The generator against a real worker, at both ends of a cable of rings, without hugepages: every
//! packet is accounted for.
//!
//! DPDK starts once a process, so this is one test.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bench::cable::{self, Cable, Setup};
use bench::flows::{Ip, VIP_PORT, VIPS};
use bench::generator::sizes::SizeMix;
use bench::generator::traffic::{Destinations, Families, Mix, Protocols};
use bench::generator::{Generator, Report, Run};
use bench::scenario::{Case, Link, Mode, NODE_MAC, ROUTER_MAC};
use dataplane::port::dpdk::Queue;
use dataplane::verdict::DropReason;
use dataplane::worker::Idle;

/// Packets that fit a ring, so that none is refused whatever the machine is busy with.
const FEW: u64 = 900;
const LONG: Duration = Duration::from_secs(60);

/// Packets to 1,000 addresses, of which the last `beside` are no VIPs.
fn mix(beside: u32) -> Mix {
    let (v4, v6): (Ipv4Addr, Ipv6Addr) =
        ("198.18.0.1".parse().unwrap(), "2001:2::1:0".parse().unwrap());
    Mix {
        families: Families::Both,
        protocols: Protocols::Both,
        flows: 1000,
        syn_share: 0.1,
        sizes: SizeMix::parse("imix").unwrap(),
        destinations: Destinations {
            v4: Ipv4Addr::from_bits(v4.to_bits() + beside),
            v6: Ipv6Addr::from_bits(v6.to_bits() + u128::from(beside)),
            count: VIPS,
            port: VIP_PORT,
        },
        to: NODE_MAC,
        from: ROUTER_MAC,
    }
}

fn setup() -> Setup {
    let case = Case {
        new_flows: false,
        flows: 0,
        table: 1 << 12,
        ip: Ip::V4,
        mode: Mode::Ipip,
        backends: 10,
    };
    let link = Link {
        device: String::new(),
        mtu: 2000,
        hugepages: false,
        vips: vec![Ip::V4, Ip::V6],
        protocol: "any",
        memory_mib: cable::memory_mib(case.table),
    };
    Setup { case, link, core: None }
}

/// Runs over the cable, with what the worker forwarded and dropped meanwhile.
fn through_the_node(
    generator: &mut Generator<Queue>,
    cable: &mut Cable,
    run: &Run,
) -> (Report, u64, u64) {
    let counters = cable.counters.clone();
    let before = (counters.forwarded.get(), counters.total_drops());
    let start = cable.clock.now();
    let beside = |cable: &mut Cable| {
        generator.run(run, |now, report| {
            cable.step(now);
            let dropped = counters.total_drops() - before.1;
            let ended = report.sent >= run.most_packets || now - start > run.time.as_nanos() as u64;
            !ended || report.received + report.refused + dropped < report.sent
        })
    };
    // The worker has stopped when its counters are read.
    let report = cable.while_working(Idle::Backoff, beside).unwrap();
    (report, counters.forwarded.get() - before.0, counters.total_drops() - before.1)
}

#[test]
fn every_packet_is_accounted_for() {
    let run = Run { rate: None, time: LONG, most_owed: 64, most_packets: FEW, patience: LONG };
    let driven = cable::with_a_node(&setup(), |mut cable| {
        let clock = cable.clock.clone();
        let near = cable.near.take().unwrap();
        let mut generator = Generator::new(near, &mix(0), clock.clone())?;

        // A few packets of every kind: all come back, wrapped.
        let (report, forwarded, drops) = through_the_node(&mut generator, &mut cable, &run);
        assert_eq!((report.sent, report.received, forwarded, drops), (FEW, FEW, FEW, 0));
        assert_eq!((report.refused, report.others, report.reordered, report.lost()), (0, 0, 0, 0));
        assert_eq!(report.latency.count(), FEW);
        // An outer IPv4 header each, and what padded the shortest is gone.
        assert!(report.received_bytes > report.sent_bytes, "{report:?}");

        // As fast as it goes: what is missing is what the worker counts as dropped.
        let many = Run { most_packets: 50_000, ..run };
        let (report, forwarded, drops) = through_the_node(&mut generator, &mut cable, &many);
        assert_eq!((report.sent, report.refused), (50_000, 0));
        assert_eq!((report.received, report.lost()), (forwarded - drops, drops));
        assert_eq!(report.received + drops, report.sent);

        // At a rate.
        let paced = Run { rate: Some(20_000), time: Duration::from_millis(300), ..many };
        let (report, forwarded, drops) = through_the_node(&mut generator, &mut cable, &paced);
        assert_eq!(report.received + drops + report.refused, report.sent);
        assert_eq!(report.received, forwarded - drops);
        // Nothing is sent before it is due; on a busy machine much is skipped.
        let due = (report.seconds * 20_000.0) as u64;
        assert!(report.sent + report.skipped <= due + 1, "{report:?}");

        // Half of the destinations are no VIPs.
        generator.set_mix(&mix(VIPS / 2))?;
        let no_vip = || cable.counters.drops(DropReason::NoVip);
        let before = no_vip();
        let (report, forwarded, drops) = through_the_node(&mut generator, &mut cable, &run);
        assert_eq!((report.sent, report.received), (FEW, forwarded));
        assert_eq!(report.lost(), drops);
        assert!(drops > 0 && cable.counters.drops(DropReason::NoVip) - before == drops);

        // The ring that leads back gives all, as they were.
        let loopback = cable.loopback.take().unwrap();
        let mut generator = Generator::new(loopback, &mix(0), clock)?;
        let report = generator.run(&run, |_, _| true);
        assert_eq!((report.sent, report.received, report.lost()), (FEW, FEW, 0));
        assert_eq!(report.received_bytes, report.sent_bytes);
        Ok(())
    });
    driven.unwrap();
}

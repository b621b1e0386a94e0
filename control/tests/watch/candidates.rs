//! What is taken, and everything that is refused.

use control::intake::{Reason, candidate};
use control::snapshot::Scheduler;
use dataplane::tables::{Affinity, BackendState, Forwarding, MssClamp, PortTable};
use maglev::Scheduler as _;
use proto::v1;

use crate::messages::{SECRET, TABLE_SIZE, snapshot, table, with_digest};

fn good() -> v1::PoolSnapshot {
    snapshot("s", "web", 7, &[("a", 100), ("b", 50)])
}

/// The settings of a message, to be changed.
fn settings(message: &mut v1::PoolSnapshot) -> &mut v1::PoolSettings {
    message.settings.as_mut().expect("settings")
}

#[test]
fn a_good_snapshot_is_taken_as_it_is() {
    let taken = candidate(&good(), &[]).expect("a candidate");
    let snapshot = &taken.snapshot;
    assert_eq!((snapshot.pool_id.as_str(), snapshot.version), ("web", 7));
    assert_eq!(snapshot.settings.scheduler, Scheduler::Maglev { table_size: TABLE_SIZE });
    assert_eq!(snapshot.settings.forwarding, Forwarding::Ipip);
    assert_eq!(snapshot.settings.hash_secret, SECRET);
    assert_eq!(snapshot.vips[0].name(), "203.0.113.1:80/tcp");
    assert_eq!(snapshot.backends[1].weight, 50);
    assert_eq!(taken.digest, Some(*table(&good()).digest()));
    assert_eq!(taken.drain_ms, 60_000);
}

#[test]
fn slots_that_come_along_are_verified() {
    let mut message = good();
    let slots = table(&message).slots().to_vec();
    message.table.as_mut().expect("a table").slots = slots;
    candidate(&message, &[]).expect("the right slots");
    let slots = &mut message.table.as_mut().expect("a table").slots;
    let other = slots.iter().position(|slot| *slot != slots[0]).expect("another backend's");
    slots.swap(0, other);
    assert_eq!(candidate(&message, &[]).expect_err("swapped").reason, Reason::Table);
    let slots = &mut message.table.as_mut().expect("a table").slots;
    slots.fill(0);
    let refusal = candidate(&message, &[]).expect_err("outside of the bound");
    assert_eq!(refusal.reason, Reason::Table);
    assert!(refusal.text.contains("slots instead of"), "{refusal}");
}

#[test]
fn states_mean_what_they_mean_for_flows() {
    let cases = [
        (v1::BackendState::Pending, 0, BackendState::Active),
        (v1::BackendState::Healthy, 10, BackendState::Active),
        (v1::BackendState::Healthy, 0, BackendState::Active),
        (v1::BackendState::Unhealthy, 0, BackendState::Unhealthy),
        // The pool panics, and is served as if all were healthy.
        (v1::BackendState::Unhealthy, 10, BackendState::Active),
        (v1::BackendState::Draining, 0, BackendState::Draining),
        (v1::BackendState::Evicted, 0, BackendState::Evicted),
    ];
    for (state, weight, expected) in cases {
        let mut message = snapshot("s", "web", 1, &[("a", weight)]);
        message.backends[0].state = state.into();
        let taken = candidate(&with_digest(message), &[]).expect("a candidate");
        assert_eq!(taken.snapshot.backends[0].state, expected, "{state:?} {weight}");
        assert_eq!(taken.snapshot.backends[0].is_eligible(), weight > 0, "{state:?} {weight}");
    }
}

type Spoil = fn(&mut v1::PoolSnapshot);

#[test]
fn everything_that_is_wrong_is_refused_with_its_reason() {
    let cases: &[(Reason, &str, Spoil)] = &[
        (Reason::Name, "pool_id is empty", |m| m.pool_id.clear()),
        (Reason::Name, "pool_id has control", |m| m.pool_id.push('\n')),
        (Reason::Name, "pool_id is 300 bytes", |m| m.pool_id = "x".repeat(300)),
        (Reason::Settings, "settings: missing", |m| m.settings = None),
        (Reason::Settings, "hash_secret: 15 bytes", |m| settings(m).hash_secret.truncate(15)),
        (Reason::Settings, "table_size: 1000", |m| settings(m).table_size = 1000),
        (Reason::Settings, "table_size: 4294967291", |m| settings(m).table_size = 4_294_967_291),
        (Reason::Settings, "drain_seconds: 86401", |m| settings(m).drain_seconds = 86_401),
        (Reason::Scheduler, "WRR is not", |m| settings(m).scheduler = v1::Scheduler::Wrr.into()),
        (Reason::Scheduler, "77 is unknown", |m| settings(m).scheduler = 77),
        (Reason::Forwarding, "NAT is not", |m| {
            settings(m).forwarding = v1::Forwarding::Nat.into();
        }),
        (Reason::Forwarding, "-1 is unknown", |m| settings(m).forwarding = -1),
        (Reason::Name, "backend_id is empty", |m| m.backends[0].backend_id.clear()),
        (Reason::Backend, "\"a\" is there twice", |m| m.backends[1].backend_id = "a".to_owned()),
        (Reason::Backend, "weight 65536", |m| m.backends[0].weight = 65_536),
        (Reason::Backend, "state 0 is unknown", |m| m.backends[0].state = 0),
        (Reason::Backend, "state 99 is unknown", |m| m.backends[0].state = 99),
        (Reason::Backend, "DRAINING with weight 100", |m| {
            m.backends[0].state = v1::BackendState::Draining.into();
        }),
        (Reason::Backend, "EVICTED with weight 100", |m| {
            m.backends[0].state = v1::BackendState::Evicted.into();
        }),
        (Reason::Address, "is not an IP", |m| m.backends[0].ip = "host-1".to_owned()),
        (Reason::Address, "is multicast", |m| m.backends[0].ip = "ff02::1".to_owned()),
        (Reason::Address, "is loopback", |m| m.backends[0].ip = "::1".to_owned()),
        (Reason::Address, "is unspecified", |m| m.backends[0].ip = "::".to_owned()),
        (Reason::Address, "is IPv4-mapped", |m| m.backends[0].ip = "::ffff:10.0.0.1".to_owned()),
        (Reason::Address, "is multicast", |m| m.backends[0].ip = "224.0.0.1".to_owned()),
        (Reason::Address, "is loopback", |m| m.backends[0].ip = "127.0.0.1".to_owned()),
        (Reason::Address, "is unspecified", |m| m.backends[0].ip = "0.0.0.0".to_owned()),
        (Reason::Address, "is reserved", |m| m.backends[0].ip = "255.255.255.255".to_owned()),
        (Reason::Vip, "is not an address", |m| m.vips[0].address = "vip".to_owned()),
        (Reason::Vip, "host bits", |m| m.vips[0].address = "2001:db8::1/64".to_owned()),
        (Reason::Vip, "length of 0 to 128", |m| m.vips[0].address = "2001:db8::/129".to_owned()),
        (Reason::Vip, "host bits", |m| m.vips[0].address = "203.0.113.1/28".to_owned()),
        (Reason::Vip, "prefix length", |m| m.vips[0].address = "203.0.113.0/33".to_owned()),
        (Reason::Vip, "prefix length", |m| m.vips[0].address = "203.0.113.0/+8".to_owned()),
        (Reason::Vip, "ports 80 to 79", |m| m.vips[0].last_port = 79),
        (Reason::Vip, "ports 80 to 65536", |m| m.vips[0].last_port = 65_536),
        (Reason::Vip, "ports 0 to 80", |m| m.vips[0].first_port = 0),
        (Reason::Vip, "protocol 0", |m| m.vips[0].protocol = 0),
        (Reason::Vip, "is there twice", |m| m.vips.push(m.vips[0].clone())),
        (Reason::Settings, "established_seconds", |m| m.vips[0].established_seconds = 90_000),
        (Reason::Limit, "65537 backends", |m| {
            m.backends = vec![v1::BackendEntry::default(); 65_537];
        }),
        (Reason::Limit, "65537 vips", |m| m.vips = vec![v1::Vip::default(); 65_537]),
        (Reason::Digest, "table: missing", |m| m.table = None),
        (Reason::Digest, "digest: 0 bytes", |m| {
            m.table.as_mut().expect("a table").digest.clear();
        }),
        (Reason::Table, "table.size: 13", |m| m.table.as_mut().expect("a table").size = 13),
        (Reason::Table, "table.slots", |m| {
            m.table.as_mut().expect("a table").slots = vec![9; TABLE_SIZE as usize];
        }),
        (Reason::Table, "table.slots", |m| m.table.as_mut().expect("a table").slots = vec![0]),
    ];
    for (reason, text, spoil) in cases {
        let mut message = good();
        spoil(&mut message);
        let refusal = candidate(&message, &[]).expect_err(text);
        assert_eq!(refusal.reason, *reason, "{refusal}");
        assert!(refusal.text.contains(text), "{refusal} has {text}");
        assert!(!refusal.text.contains(['\n', '\r']), "{refusal}");
    }
}

#[test]
fn a_backend_of_l2dsr_must_be_on_link() {
    let mut message = good();
    settings(&mut message).forwarding = v1::Forwarding::L2dsr.into();
    let port = |address: [u8; 4]| PortTable {
        mac: Default::default(),
        any_mac: false,
        vlan: None,
        mtu: 1500,
        addresses: vec![(address.into(), 24)],
    };
    candidate(&message, &[port([10, 0, 0, 200])]).expect("on the port's link");
    let refusal = candidate(&message, &[port([192, 0, 2, 2])]).expect_err("behind a gateway");
    assert_eq!(refusal.reason, Reason::Address);
}

#[test]
fn a_secret_is_in_no_debug_form() {
    let taken = candidate(&good(), &[]).expect("a candidate");
    let shown = format!("{taken:?} {:?}", taken.snapshot.settings);
    assert!(!shown.contains("0123456789abcdef"));
    assert!(!shown.contains("48, 49, 50"), "{shown}");
}

#[test]
fn the_manual_has_every_reason() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/node.md");
    let manual = std::fs::read_to_string(path).expect("docs/node.md");
    let row = |reason: &Reason| manual.matches(&format!("\n| `{}` |", reason.name())).count();
    for reason in Reason::ALL {
        assert_eq!(row(&reason), 1, "{reason:?}");
    }
}

#[test]
fn what_steers_flows_is_taken_over_and_what_cannot_be_is_refused() {
    let quic = v1::QuicConfiguration {
        config_id: 1,
        server_id_length: 2,
        nonce_length: 8,
        key: vec![5; 16],
        ..v1::QuicConfiguration::default()
    };
    let mut message = good();
    settings(&mut message).forwarding = v1::Forwarding::Gue.into();
    settings(&mut message).gue_variant_0 = true;
    settings(&mut message).second_chance = true;
    settings(&mut message).quic = vec![quic.clone()];
    message.vips[0].affinity = v1::Affinity::Source.into();
    message.vips[0].mss_clamp = 1400;
    message.backends[0].quic_server_ids = vec![vec![1, 2]];
    let taken = candidate(&message, &[]).expect("a candidate").snapshot;
    assert_eq!(taken.settings.forwarding, Forwarding::GueWithHeader);
    assert!(taken.settings.second_chance);
    assert_eq!(taken.settings.quic[0].key, Some([5; 16]));
    assert_eq!(taken.vips[0].affinity, Affinity::Source);
    assert_eq!(taken.vips[0].mss_clamp, MssClamp::To(1400));
    assert_eq!(taken.backends[0].quic_server_ids.len(), 1);

    let refused = |change: &dyn Fn(&mut v1::PoolSnapshot)| {
        let mut wrong = message.clone();
        change(&mut wrong);
        candidate(&wrong, &[]).expect_err("refused").reason
    };
    assert_eq!(refused(&|wrong| settings(wrong).gue_variant_0 = false), Reason::Settings);
    let ring =
        |wrong: &mut v1::PoolSnapshot| settings(wrong).scheduler = v1::Scheduler::Ring.into();
    assert_eq!(refused(&ring), Reason::Settings);
    for wrong_quic in [
        v1::QuicConfiguration { config_id: 7, ..quic.clone() },
        v1::QuicConfiguration { server_id_length: 300, ..quic.clone() },
        v1::QuicConfiguration { nonce_length: 18, ..quic.clone() },
        v1::QuicConfiguration { key: vec![5; 15], ..quic.clone() },
        v1::QuicConfiguration { key: Vec::new(), encrypted: true, ..quic.clone() },
    ] {
        let reason = refused(&|wrong| settings(wrong).quic = vec![wrong_quic.clone()]);
        assert_eq!(reason, Reason::Settings, "{wrong_quic:?}");
    }
    let id = |wrong: &mut v1::PoolSnapshot| wrong.backends[0].quic_server_ids = vec![vec![1; 16]];
    assert_eq!(refused(&id), Reason::Backend);
    assert_eq!(refused(&|wrong| wrong.vips[0].affinity = 99), Reason::Vip);
    for bytes in [87, 9_177, u32::MAX] {
        assert_eq!(refused(&|wrong| wrong.vips[0].mss_clamp = bytes), Reason::Vip);
    }
    assert_eq!(refused(&|wrong| wrong.vips[0].mss_clamp_auto = true), Reason::Vip, "and a size");
    message.vips[0].mss_clamp = 0;
    message.vips[0].mss_clamp_auto = true;
    let taken = candidate(&message, &[]).expect("a candidate").snapshot;
    assert_eq!(taken.vips[0].mss_clamp, MssClamp::Auto);
}

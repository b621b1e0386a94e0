//! Any configuration, for property tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proto::v1::{Affinity, Forwarding, PoolSettings, ProbeSettings, QuicConfiguration};

use super::{Backend, Configuration, Idle, Pool, Service, Vip, fill_in};
use crate::mss::MssClamp;
use crate::secret::Secret;
use crate::vip::{Ports, Transport, VipName};

/// Backends are in the pool of their id's first part: none moves.
pub(super) fn configuration() -> impl Strategy<Value = Configuration> {
    let pools = (option::of(pool("a")), option::of(pool("b")), option::of(pool("c")));
    let vips = vec((name(), 0usize..3, (idle(), any::<bool>(), mss_clamp())), 0..5);
    (pools, vips).prop_map(|((a, b, c), vips)| {
        let pools: BTreeMap<String, Pool> = [("a", a), ("b", b), ("c", c)]
            .into_iter()
            .filter_map(|(id, pool)| Some((id.to_owned(), pool?)))
            .collect();
        let ids: Vec<String> = pools.keys().cloned().collect();
        let vips = vips
            .into_iter()
            .filter(|_| !ids.is_empty())
            .map(|(name, at, (idle, by_source, mss_clamp))| {
                let affinity = if by_source { Affinity::Source } else { Affinity::Flow };
                let pool = ids[at % ids.len()].clone();
                (name, Vip { pool, idle, affinity, mss_clamp })
            })
            .collect();
        Configuration { pools, vips }
    })
}

fn mss_clamp() -> impl Strategy<Value = MssClamp> {
    prop_oneof![Just(MssClamp::Off), Just(MssClamp::Auto), (88u16..=9_176).prop_map(MssClamp::To),]
}

fn pool(id: &'static str) -> impl Strategy<Value = Pool> {
    let backends = btree_map(0u8..5, backend(), 0..4);
    (settings(), option::of(any::<[u8; 16]>()), backends).prop_map(
        move |(settings, secret, backends)| Pool {
            settings,
            secret: secret.and_then(|bytes| Secret::from_bytes(&bytes)),
            backends: backends
                .into_iter()
                .map(|(number, backend)| (format!("{id}-{number}"), backend))
                .collect(),
        },
    )
}

fn settings() -> impl Strategy<Value = PoolSettings> {
    let probe =
        (1i32..=4, 100u32..5_000, 1u32..9, 0u32..=20, vec(any::<u8>(), 0..9), "[a-z0-9_.-]{0,9}");
    let pool = (1i32..=3, 1i32..=5, 0u32..600, any::<bool>(), 1u32..9, 0u32..=100);
    (probe, pool, option::of(any::<[u8; 16]>())).prop_map(|(probe, pool, key)| {
        let (liveness, interval_ms, count, jitter_percent, udp_payload, command) = probe;
        let (scheduler, forwarding, drain_seconds, reselect, checkers, percent) = pool;
        // A command probe has to name its command.
        let command = if liveness == 4 { format!("c{command}") } else { command };
        let mut settings = PoolSettings {
            scheduler,
            forwarding,
            drain_seconds,
            reselect,
            quorum_checkers: checkers,
            quorum_down: checkers / 2 + 1,
            panic_percent: percent,
            slow_start_seconds: drain_seconds,
            probe: Some(ProbeSettings {
                liveness,
                interval_ms,
                timeout_ms: interval_ms,
                failures_to_down: count,
                passes_to_up: count,
                jitter_percent,
                http_expected_status: 200 + percent,
                udp_payload,
                command,
            }),
            quic: vec![QuicConfiguration {
                config_id: checkers % 7,
                server_id_length: checkers,
                nonce_length: 7,
                key: key.map(Vec::from).unwrap_or_default(),
                self_encoded_length: reselect,
                encrypted: false,
            }],
            ..PoolSettings::default()
        };
        settings.gue_variant_0 = reselect && forwarding == Forwarding::Gue as i32;
        settings.second_chance =
            settings.gue_variant_0 && scheduler == proto::v1::Scheduler::Maglev as i32;
        fill_in(&mut settings);
        settings
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let service = prop_oneof![Just(Service::Unsaid), Just(Service::Drain)];
    let labels = btree_map("[a-z. \"]{1,6}", ".{0,8}", 0..3);
    (address(), 1u16.., any::<u16>(), labels, "(http://[a-z]{1,8}/)?", service).prop_map(
        |(ip, port, weight, labels, readiness_probe_url, service)| Backend {
            quic_server_ids: if weight % 2 == 0 { vec![vec![port as u8, 7]] } else { Vec::new() },
            ip,
            port,
            weight,
            labels,
            readiness_probe_url,
            service,
        },
    )
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u32..=u32::MAX).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (1u128..=u128::MAX).prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn name() -> impl Strategy<Value = VipName> {
    let net = |address: IpAddr, length| IpNet::new(address, length).unwrap().trunc();
    let prefix = prop_oneof![
        (any::<u32>(), 8u8..=32)
            .prop_map(move |(bits, length)| net(Ipv4Addr::from_bits(bits).into(), length)),
        (any::<u128>(), 16u8..=128)
            .prop_map(move |(bits, length)| net(Ipv6Addr::from_bits(bits).into(), length)),
    ];
    let ports = prop_oneof![
        Just(Ports::Any),
        (1u16.., 0u16..100)
            .prop_map(|(first, more)| Ports::Range(first, first.saturating_add(more))),
    ];
    let protocol = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Any)];
    (prefix, ports, protocol).prop_map(|(address, ports, protocol)| VipName {
        address,
        ports,
        protocol,
    })
}

fn idle() -> impl Strategy<Value = Idle> {
    let seconds = || 1u32..=86_400;
    (seconds(), seconds(), seconds(), seconds(), seconds()).prop_map(
        |(syn_received, established, fin_wait, time_wait, udp)| Idle {
            syn_received,
            established,
            fin_wait,
            time_wait,
            udp,
        },
    )
}

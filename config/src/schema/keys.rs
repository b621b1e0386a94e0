//! The keys of a node's file, section by section, in the order of the documentation.

use super::build::*;
use super::{Fallback, Key, Kind, Reload, Section};

/// What stands at the top level.
pub(crate) static TOP: Section = Section {
    title: "",
    keys: &[
        &top::NODE,
        &top::DPDK,
        &top::PORT,
        &top::ENCAPSULATION,
        &top::ICMP,
        &top::CONNTRACK,
        &top::FRAGMENTS,
        &top::POOL,
        &top::VIP,
        &top::CONTROLLER,
    ],
    reload: Reload::Restart,
};
/// `[node]`
pub(crate) static NODE: Section = Section {
    title: "[node]",
    keys: &[&node::NAME, &node::ZONE, &node::ADMIN, &node::ADMIN_TOKEN_FILE, &node::STATE_DIR],
    reload: Reload::Restart,
};
/// `[dpdk]`
pub(crate) static DPDK: Section = Section {
    title: "[dpdk]",
    keys: &[
        &dpdk::MEMORY_MIB,
        &dpdk::HUGEPAGES,
        &dpdk::MAIN_CORE,
        &dpdk::WORKER_CORES,
        &dpdk::IDLE,
        &dpdk::FEWER_QUEUES,
        &dpdk::FILE_PREFIX,
        &dpdk::EAL_ARGS,
    ],
    reload: Reload::Restart,
};
/// `[[port]]`
pub(crate) static PORT: Section = Section {
    title: "[[port]]",
    keys: &[
        &port::NAME,
        &port::DEVICE,
        &port::ADDRESSES,
        &port::GATEWAYS,
        &port::NEIGHBORS,
        &port::MTU,
        &port::MAC,
        &port::VLAN,
        &port::RX_DESCRIPTORS,
        &port::TX_DESCRIPTORS,
        &port::MBUFS,
        &port::OUTER_VLAN,
        &port::OUTER_VLAN_PROTOCOL,
        &port::CHECKSUM_OFFLOAD,
        &port::EXCEPTION,
        &port::EXCEPTION_DRIVER,
    ],
    reload: Reload::Restart,
};
/// An element of a port's `neighbors`.
pub(crate) static NEIGHBOR: Section = Section {
    title: "[[port.neighbors]]",
    keys: &[&neighbor::ADDRESS, &neighbor::MAC],
    reload: Reload::Restart,
};
/// `[encapsulation]`
pub(crate) static ENCAPSULATION: Section = Section {
    title: "[encapsulation]",
    keys: &[
        &encapsulation::SOURCE_V4,
        &encapsulation::SOURCE_V6,
        &encapsulation::SOURCE_ENTROPY_V4,
        &encapsulation::SOURCE_ENTROPY_V6,
        &encapsulation::DONT_FRAGMENT,
        &encapsulation::OVERSIZE,
        &encapsulation::OUTER_TTL,
        &encapsulation::GUE_PORT,
        &encapsulation::GUE_CHECKSUM_V6,
    ],
    reload: Reload::Live,
};
/// `[icmp]`
pub(crate) static ICMP: Section = Section {
    title: "[icmp]",
    keys: &[
        &icmp::DELIVERED_PER_SECOND,
        &icmp::SENT_PER_SECOND,
        &icmp::SENT_PER_PREFIX,
        &icmp::PORT_UNREACHABLE,
    ],
    reload: Reload::Live,
};
/// `[conntrack]`
pub(crate) static CONNTRACK: Section =
    Section { title: "[conntrack]", keys: &[&conntrack::FLOWS], reload: Reload::Restart };
/// `[fragments]`
pub(crate) static FRAGMENTS: Section = Section {
    title: "[fragments]",
    keys: &[&fragments::EARLY, &fragments::WAIT_MS, &fragments::TIMEOUT_MS],
    reload: Reload::Live,
};
/// `[[pool]]`
pub(crate) static POOL: Section = Section {
    title: "[[pool]]",
    keys: &[
        &pool::ID,
        &pool::SCHEDULER,
        &pool::TABLE_SIZE,
        &pool::FORWARDING,
        &pool::GUE_VARIANT,
        &pool::SECOND_CHANCE,
        &pool::HASH_SECRET,
        &pool::DRAIN_SECONDS,
        &pool::BACKEND,
        &pool::QUIC,
    ],
    reload: Reload::Live,
};
/// `[[pool.backend]]`
pub(crate) static BACKEND: Section = Section {
    title: "[[pool.backend]]",
    keys: &[
        &backend::ID,
        &backend::ADDRESS,
        &backend::WEIGHT,
        &backend::STATE,
        &backend::QUIC_SERVER_IDS,
    ],
    reload: Reload::Live,
};
/// `[[pool.quic]]`
pub(crate) static QUIC: Section = Section {
    title: "[[pool.quic]]",
    keys: &[
        &quic::CONFIG_ID,
        &quic::SERVER_ID_LENGTH,
        &quic::NONCE_LENGTH,
        &quic::KEY,
        &quic::SELF_ENCODED_LENGTH,
    ],
    reload: Reload::Live,
};
/// `[[vip]]`
pub(crate) static VIP: Section = Section {
    title: "[[vip]]",
    keys: &[
        &vip::ADDRESS,
        &vip::PORT,
        &vip::PROTOCOL,
        &vip::POOL,
        &vip::AFFINITY,
        &vip::MSS_CLAMP,
        &vip::SYN_RECEIVED,
        &vip::ESTABLISHED,
        &vip::FIN_WAIT,
        &vip::TIME_WAIT,
        &vip::UDP_IDLE,
    ],
    reload: Reload::Live,
};

/// Keys of the top level.
pub(crate) mod top {
    use super::*;
    pub(crate) static NODE: Key = key("node", Kind::Table("[node]"), ABSENT);
    pub(crate) static DPDK: Key = key("dpdk", Kind::Table("[dpdk]"), ABSENT);
    pub(crate) static PORT: Key =
        key("port", Kind::Tables("[[port]]"), Fallback::Required).rule("1 to 32");
    pub(crate) static ENCAPSULATION: Key =
        key("encapsulation", Kind::Table("[encapsulation]"), ABSENT);
    pub(crate) static ICMP: Key = key("icmp", Kind::Table("[icmp]"), ABSENT);
    pub(crate) static CONNTRACK: Key = key("conntrack", Kind::Table("[conntrack]"), ABSENT);
    pub(crate) static FRAGMENTS: Key = key("fragments", Kind::Table("[fragments]"), ABSENT);
    pub(crate) static POOL: Key =
        key("pool", Kind::Tables("[[pool]]"), NONE).rule("without `[controller]` only");
    pub(crate) static VIP: Key =
        key("vip", Kind::Tables("[[vip]]"), NONE).rule("without `[controller]` only");
    pub(crate) static CONTROLLER: Key = key("controller", Kind::Table("[controller]"), NONE);
}

/// Keys of `[node]`.
pub(crate) mod node {
    use super::*;
    pub(crate) static NAME: Key = key("name", super::NAME, Fallback::Text("weir"));
    pub(crate) static ZONE: Key = key("zone", super::NAME, Fallback::Text("default"));
    pub(crate) static ADMIN: Key =
        listener("admin", "127.0.0.1:9180").rule("loopback without `admin_token_file`");
    pub(crate) static ADMIN_TOKEN_FILE: Key = file("admin_token_file", NONE);
    pub(crate) static STATE_DIR: Key = file("state_dir", Fallback::Text("/var/lib/weir"));
}

/// Keys of `[dpdk]`.
pub(crate) mod dpdk {
    use super::*;
    pub(crate) static MEMORY_MIB: Key =
        integer("memory_mib", 64, 1_048_576, Fallback::Integer(512)).unit("MiB");
    pub(crate) static HUGEPAGES: Key = key("hugepages", Kind::Boolean, Fallback::Boolean(true));
    pub(crate) static MAIN_CORE: Key = integer("main_core", 0, 1023, Fallback::Integer(0));
    pub(crate) static WORKER_CORES: Key =
        key("worker_cores", Kind::Integers { min: 0, max: 1023 }, Fallback::Integers(&[1]))
            .rule("1 to 128 of them, none twice");
    pub(crate) static IDLE: Key = key(
        "idle",
        Kind::Choice { now: &["spin", "backoff"], later: &[] },
        Fallback::Text("backoff"),
    );
    pub(crate) static FEWER_QUEUES: Key = key(
        "fewer_queues",
        Kind::Choice { now: &["refuse", "use"], later: &[] },
        Fallback::Text("refuse"),
    );
    pub(crate) static FILE_PREFIX: Key = key("file_prefix", super::NAME, Fallback::Text("weir"));
    pub(crate) static EAL_ARGS: Key = key("eal_args", Kind::Texts, Fallback::Empty);
}

/// Keys of `[[port]]`.
pub(crate) mod port {
    use super::*;
    const DESCRIPTORS: Fallback = Fallback::Integer(1024);
    pub(crate) static NAME: Key =
        key("name", Kind::Name { punctuation: "_-" }, Fallback::Required).rule("unique");
    pub(crate) static DEVICE: Key =
        key("device", Kind::Text, Fallback::Required).rule("no blanks; unique");
    pub(crate) static ADDRESSES: Key = key(
        "addresses",
        Kind::Notations { what: "IP address with prefix length", example: "192.0.2.2/24" },
        Fallback::Required,
    )
    .rule("1 to 64");
    pub(crate) static GATEWAYS: Key = key(
        "gateways",
        Kind::Notations { what: "IP address", example: "192.0.2.1" },
        Fallback::Empty,
    )
    .rule("up to 64, on-link");
    pub(crate) static NEIGHBORS: Key =
        key("neighbors", Kind::Tables("{ address = \"...\", mac = \"...\" }"), Fallback::Empty)
            .rule("on-link");
    pub(crate) static MTU: Key = integer("mtu", 576, 9216, Fallback::Integer(1500)).unit("bytes");
    pub(crate) static MAC: Key =
        key("mac", super::MAC, Fallback::Words("the device's own")).rule("unicast");
    pub(crate) static VLAN: Key = integer("vlan", 1, 4094, Fallback::Words("untagged"));
    pub(crate) static OUTER_VLAN: Key =
        integer("outer_vlan", 1, 4094, NONE).rule("with `vlan` only");
    pub(crate) static OUTER_VLAN_PROTOCOL: Key = key(
        "outer_vlan_protocol",
        Kind::Choice { now: &["802.1ad", "802.1q"], later: &[] },
        Fallback::Text("802.1ad"),
    );
    pub(crate) static RX_DESCRIPTORS: Key =
        integer("rx_descriptors", 64, 4096, DESCRIPTORS).rule("a power of two");
    pub(crate) static TX_DESCRIPTORS: Key =
        integer("tx_descriptors", 64, 4096, DESCRIPTORS).rule("a power of two");
    pub(crate) static MBUFS: Key =
        integer("mbufs", 1024, 16_777_216, Fallback::Words("from the number of descriptors"))
            .unit("packet buffers");
    pub(crate) static CHECKSUM_OFFLOAD: Key =
        key("checksum_offload", Kind::Boolean, Fallback::Boolean(true));
    pub(crate) static EXCEPTION: Key =
        key("exception", Kind::Text, NONE).rule("1 to 15 letters, digits and _ - .; unique");
    pub(crate) static EXCEPTION_DRIVER: Key = key(
        "exception_driver",
        Kind::Choice { now: &["tap", "virtio_user"], later: &[] },
        Fallback::Text("tap"),
    );
}

/// Keys of an element of `neighbors`.
pub(crate) mod neighbor {
    use super::*;
    pub(crate) static ADDRESS: Key = key(
        "address",
        Kind::Notation { what: "IP address", example: "192.0.2.1" },
        Fallback::Required,
    )
    .rule("on-link, not the node's own");
    pub(crate) static MAC: Key = key("mac", super::MAC, Fallback::Required).rule("unicast");
}

/// Keys of `[encapsulation]`.
pub(crate) mod encapsulation {
    use super::*;
    const SENDING_PORT: Fallback = Fallback::Words("the sending port's first address");
    pub(crate) static SOURCE_V4: Key = key("source_v4", IPV4, SENDING_PORT).rule("unicast");
    pub(crate) static SOURCE_V6: Key = key("source_v6", IPV6, SENDING_PORT).rule("unicast");
    pub(crate) static SOURCE_ENTROPY_V4: Key = key(
        "source_entropy_v4",
        Kind::Notation { what: "IPv4 prefix", example: "172.16.0.0/16" },
        NONE,
    )
    .rule("/8 to /30, no host bits");
    pub(crate) static SOURCE_ENTROPY_V6: Key =
        key("source_entropy_v6", Kind::Notation { what: "IPv6 prefix", example: "100::/64" }, NONE)
            .rule("/16 to /112, no host bits");
    pub(crate) static DONT_FRAGMENT: Key = key(
        "dont_fragment",
        Kind::Boolean,
        Fallback::Words("`true`; `false` with `source_entropy_v4`"),
    );
    pub(crate) static OVERSIZE: Key = key(
        "oversize",
        Kind::Choice { now: &["fragment", "drop"], later: &[] },
        Fallback::Text("fragment"),
    );
    pub(crate) static OUTER_TTL: Key = integer("outer_ttl", 1, 255, Fallback::Integer(64));
    pub(crate) static GUE_PORT: Key = integer("gue_port", 1, 65_535, Fallback::Integer(6080));
    pub(crate) static GUE_CHECKSUM_V6: Key =
        key("gue_checksum_v6", Kind::Boolean, Fallback::Boolean(true));
}

/// Keys of `[icmp]`.
pub(crate) mod icmp {
    use super::*;
    const fn rate(name: &'static str, default: i64) -> Key {
        integer(name, 0, 1_000_000, Fallback::Integer(default)).unit("packets a worker")
    }
    pub(crate) static DELIVERED_PER_SECOND: Key = rate("delivered_per_second", 10_000);
    pub(crate) static SENT_PER_SECOND: Key = rate("sent_per_second", 1_000);
    pub(crate) static SENT_PER_PREFIX: Key = rate("sent_per_prefix", 10);
    pub(crate) static PORT_UNREACHABLE: Key =
        key("port_unreachable", Kind::Boolean, Fallback::Boolean(false));
}

/// Keys of `[conntrack]`.
pub(crate) mod conntrack {
    use super::*;
    pub(crate) static FLOWS: Key =
        integer("flows", 64, 268_435_456, Fallback::Integer(2_000_000)).unit("flows a node");
}

/// Keys of `[fragments]`.
pub(crate) mod fragments {
    use super::*;
    pub(crate) static EARLY: Key =
        key("early", Kind::Choice { now: &["wait", "hash"], later: &[] }, Fallback::Text("wait"));
    pub(crate) static WAIT_MS: Key = integer("wait_ms", 10, 10_000, Fallback::Integer(500))
        .rule("at most `timeout_ms`")
        .unit("milliseconds");
    pub(crate) static TIMEOUT_MS: Key =
        integer("timeout_ms", 100, 60_000, Fallback::Integer(2000)).unit("milliseconds");
}

/// Keys of `[[pool]]`.
pub(crate) mod pool {
    use super::*;
    pub(crate) const LARGEST_TABLE: u32 = 16_777_213;
    pub(crate) static ID: Key = key("id", super::ID, Fallback::Required).rule("unique");
    pub(crate) static SCHEDULER: Key = key(
        "scheduler",
        Kind::Choice { now: &["maglev", "ring"], later: &["wrr"] },
        Fallback::Text("maglev"),
    );
    pub(crate) static TABLE_SIZE: Key =
        integer("table_size", 2, LARGEST_TABLE as i64, Fallback::Integer(65_537))
            .rule("a prime")
            .unit("slots");
    pub(crate) static FORWARDING: Key = key(
        "forwarding",
        Kind::Choice { now: &["ipip", "gre", "gue", "l2dsr"], later: &["nat"] },
        Fallback::Text("ipip"),
    );
    pub(crate) static GUE_VARIANT: Key = integer("gue_variant", 0, 1, Fallback::Integer(1))
        .rule("0 with `forwarding = \"gue\"` only");
    pub(crate) static SECOND_CHANCE: Key =
        key("second_chance", Kind::Boolean, Fallback::Boolean(false))
            .rule("`true` with `gue_variant = 0` and `scheduler = \"maglev\"` only");
    pub(crate) static HASH_SECRET: Key = key(
        "hash_secret",
        Kind::Secret { what: "32 hex digits" },
        Fallback::Words("derived from `id`, with a warning"),
    );
    pub(crate) static DRAIN_SECONDS: Key = seconds("drain_seconds", 0, 60);
    pub(crate) static BACKEND: Key =
        key("backend", Kind::Tables("[[pool.backend]]"), Fallback::Empty);
    pub(crate) static QUIC: Key = key("quic", Kind::Tables("[[pool.quic]]"), Fallback::Empty);
}

/// Keys of `[[pool.backend]]`.
pub(crate) mod backend {
    use super::*;
    pub(crate) static ID: Key = key("id", super::ID, Fallback::Required).rule("unique in its pool");
    pub(crate) static ADDRESS: Key = key(
        "address",
        Kind::Notation { what: "IP address", example: "192.0.2.11" },
        Fallback::Required,
    )
    .rule("unicast");
    pub(crate) static WEIGHT: Key = integer("weight", 0, 65_535, Fallback::Integer(100));
    pub(crate) static STATE: Key = key(
        "state",
        Kind::Choice { now: &["active", "drain"], later: &[] },
        Fallback::Text("active"),
    );
    pub(crate) static QUIC_SERVER_IDS: Key = key(
        "quic_server_ids",
        Kind::Notations { what: "string of 2 to 30 hex digits", example: "0a1b" },
        Fallback::Empty,
    )
    .rule("unique in its pool, as long as a `server_id_length`");
}

/// Keys of `[[pool.quic]]`.
pub(crate) mod quic {
    use super::*;
    pub(crate) static CONFIG_ID: Key =
        integer("config_id", 0, 6, Fallback::Required).rule("unique in its pool");
    pub(crate) static SERVER_ID_LENGTH: Key =
        integer("server_id_length", 1, 15, Fallback::Required).unit("octets");
    pub(crate) static NONCE_LENGTH: Key = integer("nonce_length", 4, 18, Fallback::Required)
        .rule("with the server id at most 19")
        .unit("octets");
    pub(crate) static KEY: Key = key("key", Kind::Secret { what: "32 hex digits" }, NONE);
    pub(crate) static SELF_ENCODED_LENGTH: Key =
        key("self_encoded_length", Kind::Boolean, Fallback::Boolean(false));
}

/// Keys of `[[vip]]`.
pub(crate) mod vip {
    use super::*;
    pub(crate) static ADDRESS: Key = key(
        "address",
        Kind::Notation { what: "IP address or prefix", example: "203.0.113.1" },
        Fallback::Required,
    )
    .rule("unicast, no host bits");
    pub(crate) static PORT: Key = key("port", Kind::Ports, Fallback::Required);
    pub(crate) static PROTOCOL: Key = key(
        "protocol",
        Kind::Choice { now: &["tcp", "udp", "any"], later: &[] },
        Fallback::Required,
    );
    pub(crate) static POOL: Key = key("pool", Kind::Text, Fallback::Required).rule("a pool's `id`");
    pub(crate) static AFFINITY: Key = key(
        "affinity",
        Kind::Choice { now: &["flow", "source", "quic"], later: &[] },
        Fallback::Text("flow"),
    );
    pub(crate) const LEAST_MSS: u16 = 88;
    pub(crate) const LARGEST_MSS: u16 = 9_176;
    pub(crate) static MSS_CLAMP: Key =
        key("mss_clamp", Kind::MssClamp, NONE).unit("bytes of a TCP segment");
    pub(crate) static SYN_RECEIVED: Key = seconds("syn_received_seconds", 1, 30);
    pub(crate) static ESTABLISHED: Key = seconds("established_seconds", 1, 300);
    pub(crate) static FIN_WAIT: Key = seconds("fin_wait_seconds", 1, 60);
    pub(crate) static TIME_WAIT: Key = seconds("time_wait_seconds", 1, 60);
    pub(crate) static UDP_IDLE: Key = seconds("udp_idle_seconds", 1, 60);
}

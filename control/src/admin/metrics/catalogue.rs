//! Every metric of a node, in the order of `/metrics` and of `docs/metrics.md`.
//!
//! The documentation is held to this list by a test, and so is what is rendered.

use super::exposition::{Kind, Metric};

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, unit, help }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, unit, help }
}

const NONE: &[&str] = &[];
const VIP: &[&str] = &["vip", "pool"];
const POOL: &[&str] = &["pool"];
const BACKEND: &[&str] = &["pool", "backend"];
const WORKER: &[&str] = &["worker"];
const PORT: &[&str] = &["port"];

macro_rules! catalogue {
    ($($constant:ident = $make:ident($name:literal, $labels:expr, $unit:literal, $help:literal);)*) => {
        $(pub(super) static $constant: Metric = $make($name, $labels, $unit, $help);)*

        /// All metrics.
        pub static METRICS: &[&Metric] = &[$(&$constant,)*];
    };
}

catalogue! {
    BUILD_INFO = gauge("weir_build_info", &["version", "node", "zone"], "1",
        "Always 1; the labels say which release runs, and the node's name and zone.");
    UPTIME = gauge("weir_uptime_seconds", NONE, "seconds",
        "Time since the node started.");
    READY = gauge("weir_ready", NONE, "1",
        "1 while nothing speaks against sending traffic here; /readyz says what does.");

    TABLES_GENERATION = gauge("weir_tables_generation", NONE, "generation",
        "Number of the tables published last.");
    TABLES_OUTSTANDING = gauge("weir_tables_outstanding", NONE, "tables",
        "Replaced tables that a worker may still hold.");
    RELOADS = counter("weir_reloads_total", &["result"], "reloads",
        "Reloads of the configuration, by result: applied or refused.");
    CONFIG_STALE = gauge("weir_config_stale", NONE, "1",
        "1 while the last reload was refused, so that an older configuration is in force.");
    CONTROL_FRAMES_LOST = counter("weir_control_frames_lost_total", NONE, "frames",
        "Frames of the node's own (ARP requests, neighbour solicitations) that a worker had no room for.");

    CONTROLLER_CONNECTED = gauge("weir_controller_connected", NONE, "1",
        "1 while a controller is connected.");
    SNAPSHOT_AGE = gauge("weir_snapshot_age_seconds", NONE, "seconds",
        "Time since the controller was last heard; before it was ever heard, the age of the cache.");
    SNAPSHOT_STALE = gauge("weir_snapshot_stale", NONE, "1",
        "1 when no controller has been connected for 15 s, or the cache's snapshots are served and none \
         was connected yet.");
    SNAPSHOT_VERSION = gauge("weir_snapshot_version", POOL, "version",
        "Version of the controller's snapshot in force.");
    SNAPSHOT_APPLIED = counter("weir_snapshot_applied_total", NONE, "changes",
        "Changes of the controller's that came into force.");
    SNAPSHOT_APPLY_SECONDS = counter("weir_snapshot_apply_seconds_total", NONE, "seconds",
        "Time from hearing those changes to their tables being published, all together.");
    SNAPSHOT_APPLY_LAST = gauge("weir_snapshot_apply_last_seconds", NONE, "seconds",
        "The same time, of the last change.");
    SNAPSHOT_REFUSED = counter("weir_snapshot_refused_total", &["pool", "reason"], "snapshots",
        "Snapshots refused, which left the pool as it was; docs/node.md explains each reason.");
    SNAPSHOT_CACHE_WRITES = counter("weir_snapshot_cache_writes_total", &["result"], "writes",
        "Attempts to save the snapshots, by result: written or failed.");
    SNAPSHOT_CACHE_FAILING = gauge("weir_snapshot_cache_failing", NONE, "1",
        "1 while the last attempt to save the snapshots failed.");
    CONTROLLER_REPORTS = counter("weir_controller_reports_total", &["result"], "reports",
        "Reports to the controller, by result: sent or acknowledged.");
    DRAINED_HERE = gauge("weir_backend_drained_here", BACKEND, "1",
        "Always 1; the backend is drained by this node's operator, whatever the snapshot says.");

    VIP_PACKETS = counter("weir_vip_packets_total", VIP, "packets",
        "Packets to the VIP that were forwarded.");
    VIP_BYTES = counter("weir_vip_bytes_total", VIP, "bytes",
        "Bytes of those packets, from the IP header on, as they came.");
    VIP_NEW_FLOWS = counter("weir_vip_new_flows_total", VIP, "flows",
        "Flows that began: a TCP SYN, or the first packet of another protocol.");
    VIP_ACTIVE_FLOWS = gauge("weir_vip_active_flows", VIP, "flows",
        "Tracked flows of the VIP.");

    POOL_VERSION = gauge("weir_pool_version", POOL, "version",
        "Version of the pool's snapshot in force.");
    POOL_DIGEST = gauge("weir_pool_digest_info", &["pool", "digest"], "1",
        "Always 1; the digest of the pool's table, equal on nodes that send every flow the same way.");
    POOL_SLOTS = gauge("weir_pool_slots", POOL, "slots",
        "Slots of the pool's table, or points of its ring; 0 when no backend is eligible.");
    POOL_ELIGIBLE = gauge("weir_pool_eligible_backends", POOL, "backends",
        "Backends that are given new flows.");
    POOL_IMBALANCE = gauge("weir_pool_imbalance_ratio", POOL, "ratio",
        "Largest ratio of a backend's share of the table to the share its weight asks for; 1 is \
         exact.");

    BACKEND_INFO = gauge("weir_backend_info", &["pool", "backend", "address"], "1",
        "Always 1; the address of the backend.");
    BACKEND_PACKETS = counter("weir_backend_packets_total", BACKEND, "packets",
        "Packets forwarded to the backend.");
    BACKEND_BYTES = counter("weir_backend_bytes_total", BACKEND, "bytes",
        "Bytes of those packets, without the outer header.");
    BACKEND_NEW_FLOWS = counter("weir_backend_new_flows_total", BACKEND, "flows",
        "Flows that began on the backend.");
    BACKEND_ACTIVE_FLOWS = gauge("weir_backend_active_flows", BACKEND, "flows",
        "Tracked flows of the backend.");
    BACKEND_CLIENT_RESETS = counter("weir_backend_client_resets_total", BACKEND, "flows",
        "Flows of the backend that the client ended with a reset.");
    BACKEND_SYN_RETRANSMITS = counter("weir_backend_syn_retransmits_total", BACKEND, "packets",
        "SYNs that clients of the backend repeated, because no answer reached them.");
    BACKEND_STATE = gauge("weir_backend_state", &["pool", "backend", "state"], "1",
        "1 for the state the backend is in, 0 for the others: active, draining, unhealthy, \
         evicted.");
    BACKEND_REACHABLE = gauge("weir_backend_reachable", BACKEND, "1",
        "1 while the link address of the backend's next hop is known.");
    BACKEND_WEIGHT = gauge("weir_backend_weight", BACKEND, "weight",
        "Configured share of new flows, relative to the others.");
    BACKEND_SLOTS = gauge("weir_backend_slots", BACKEND, "slots",
        "Slots of the table, or points of the ring, that lead to the backend.");

    DROPS = counter("weir_drops_total", &["reason"], "packets",
        "Packets dropped, by reason; docs/drop-reasons.md explains each.");

    WORKER_RECEIVED_PACKETS = counter("weir_worker_received_packets_total", WORKER, "packets",
        "Packets taken from the ports.");
    WORKER_RECEIVED_BYTES = counter("weir_worker_received_bytes_total", WORKER, "bytes",
        "Bytes of those packets, with the Ethernet header.");
    WORKER_TRANSMITTED_PACKETS = counter("weir_worker_transmitted_packets_total", WORKER, "packets",
        "Packets handed to the ports, the node's own included.");
    WORKER_TRANSMITTED_BYTES = counter("weir_worker_transmitted_bytes_total", WORKER, "bytes",
        "Bytes of those packets, with the Ethernet header.");
    WORKER_FORWARDED = counter("weir_worker_forwarded_packets_total", WORKER, "packets",
        "Packets forwarded to backends.");
    WORKER_REPLIED = counter("weir_worker_replied_packets_total", WORKER, "packets",
        "Packets the node answered itself: ARP, neighbour discovery, ICMP echo, resets.");
    WORKER_HOST = counter("weir_worker_host_packets_total", WORKER, "packets",
        "Packets meant for the node and consumed by it.");
    WORKER_TO_KERNEL = counter("weir_worker_to_kernel_packets_total", WORKER, "packets",
        "Packets for the node that its kernel took, over the exception path.");
    WORKER_FROM_KERNEL = counter("weir_worker_from_kernel_packets_total", WORKER, "packets",
        "Packets of the node's kernel that went out of a port.");
    WORKER_HELD = counter("weir_worker_held_packets_total", WORKER, "packets",
        "Packets that had to wait for the link address of a next hop.");
    WORKER_GIVEN = counter("weir_worker_given_packets_total", WORKER, "packets",
        "Fragments and ICMP errors given to the worker that has their flow.");
    WORKER_TAKEN = counter("weir_worker_taken_packets_total", WORKER, "packets",
        "Fragments and ICMP errors taken from other workers.");
    WORKER_FRAGMENTS = counter("weir_worker_fragments_total", WORKER, "packets",
        "Fragments of datagrams to VIPs, at the worker where those of a datagram meet.");
    WORKER_FRAGMENTS_WAITED = counter("weir_worker_fragments_waited_total", WORKER, "packets",
        "Fragments that had to wait for the first of their datagram.");
    WORKER_FRAGMENTS_WAITING = gauge("weir_worker_fragments_waiting", WORKER, "packets",
        "Fragments that wait now, 512 at most.");
    WORKER_DATAGRAMS = gauge("weir_worker_fragmented_datagrams", WORKER, "datagrams",
        "Datagrams in fragments that the worker remembers, 1,024 at most.");
    WORKER_RESETS = counter("weir_worker_resets_total", WORKER, "packets",
        "TCP resets sent to clients of evicted backends.");
    WORKER_DROPPED = counter("weir_worker_dropped_packets_total", WORKER, "packets",
        "Packets dropped, for any reason.");
    WORKER_ICMP_DELIVERED = counter("weir_worker_icmp_delivered_total", WORKER, "errors",
        "ICMP errors to VIPs handed to the backends of the flows they quote.");
    WORKER_ICMP_LIMITED = counter("weir_worker_icmp_limited_total", WORKER, "errors",
        "ICMP errors of the node's own that were due, and not sent because of the limits.");
    WORKER_FRAGMENTED = counter("weir_worker_fragmented_packets_total", WORKER, "packets",
        "Packets sent in an outer packet that was cut into fragments.");
    WORKER_MSS_CLAMPED = counter("weir_worker_mss_clamped_total", WORKER, "packets",
        "SYNs whose MSS was lowered by the VIP's `mss_clamp`.");
    WORKER_ICMP_SENT = counter("weir_worker_icmp_sent_total", &["worker", "kind"], "errors",
        "ICMP errors of the node's own, by kind: too_big, time_exceeded or port_unreachable.");
    WORKER_POLLS = counter("weir_worker_polls_total", &["worker", "kind"], "polls",
        "Rounds of the worker, by kind: busy ones found packets, idle ones none.");
    WORKER_BUSY = counter("weir_worker_busy_seconds_total", WORKER, "seconds",
        "Time spent in rounds that found packets.");
    WORKER_BUSY_RATIO = gauge("weir_worker_busy_ratio", WORKER, "ratio",
        "Part of the time that was busy, 0 to 1, since the scrape before (over a second at \
         least).");
    WORKER_TICK_AGE = gauge("weir_worker_tick_age_seconds", WORKER, "seconds",
        "Time since the worker last looked at its queues.");
    WORKER_GENERATION = gauge("weir_worker_tables_generation", WORKER, "generation",
        "Number of the tables the worker uses; 0 before it has any.");
    WORKER_EVENTS_LOST = counter("weir_worker_events_lost_total", WORKER, "events",
        "ARP and neighbour discovery sightings that found the queue to the control thread full.");
    WORKER_BUFFERS = gauge("weir_worker_buffers_available", WORKER, "buffers",
        "Packet buffers of the worker's pool that nobody uses.");

    CONNTRACK_ENTRIES = gauge("weir_conntrack_entries", WORKER, "flows",
        "Flows in the worker's table, timed-out ones not yet reaped included.");
    CONNTRACK_CAPACITY = gauge("weir_conntrack_capacity", WORKER, "flows",
        "Flows the worker's table can hold.");
    CONNTRACK_HITS = counter("weir_conntrack_hits_total", WORKER, "packets",
        "Packets whose flow had an entry.");
    CONNTRACK_MISSES = counter("weir_conntrack_misses_total", WORKER, "packets",
        "Packets whose flow had none.");
    CONNTRACK_INSERTS = counter("weir_conntrack_inserts_total", WORKER, "flows",
        "Entries made.");
    CONNTRACK_EVICTIONS = counter("weir_conntrack_evictions_total", WORKER, "flows",
        "Entries that had to go to make room.");
    CONNTRACK_REFUSED = counter("weir_conntrack_refused_total", WORKER, "packets",
        "Packets whose flow found no room, and which are forwarded by the pool's table alone.");
    CONNTRACK_EXPIRED = counter("weir_conntrack_expired_total", WORKER, "flows",
        "Entries removed because they had been idle for too long.");

    TUNNEL_PROBE_DOWN = gauge("weir_tunnel_probe_down", BACKEND, "1",
        "1 while the backend does not answer at its VIP, through the tunnel.");
    TUNNEL_PROBE_REFUSED = gauge("weir_tunnel_probe_refused", BACKEND, "1",
        "1 while the backend refuses connections at a VIP: the tunnel is there, the service is not.");
    TUNNEL_PROBE_RESULTS = counter("weir_tunnel_probe_results_total", &["result"], "probes",
        "Probes by what became of them: accepted, refused, silent, unreachable, late, put_off.");
    TUNNEL_PROBE_LOST = counter("weir_tunnel_probe_lost_total", &["what"], "packets",
        "Answers the control thread had no room for, and packets of probes that were not sent.");

    NEIGHBOUR_STATE = gauge("weir_neighbour_state", &["port", "address", "state"], "1",
        "1 for the state the next hop is in, 0 for the others: static, incomplete, reachable, \
         failed.");

    PORT_LINK_UP = gauge("weir_port_link_up", PORT, "1",
        "1 while the device has carrier.");
    PORT_RECEIVED = counter("weir_port_received_packets_total", PORT, "packets",
        "Packets the device received.");
    PORT_TRANSMITTED = counter("weir_port_transmitted_packets_total", PORT, "packets",
        "Packets the device transmitted.");
    PORT_MISSED = counter("weir_port_missed_packets_total", PORT, "packets",
        "Packets the device dropped because the workers were too slow.");
    PORT_RECEIVE_ERRORS = counter("weir_port_receive_errors_total", PORT, "packets",
        "Packets the device received with errors.");
    PORT_TRANSMIT_ERRORS = counter("weir_port_transmit_errors_total", PORT, "packets",
        "Packets the device could not transmit.");
    PORT_NO_BUFFER = counter("weir_port_no_buffer_total", PORT, "packets",
        "Receives that failed because no packet buffer was free.");
}

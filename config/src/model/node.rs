//! A node.

use super::ControllerClient;
use crate::{HashSecret, MacAddress, QuicKey, QuicServerId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[dpdk]`
    pub dpdk: Dpdk,
    /// `[[port]]`, in the order of the file: 1 to 32, names and devices unique.
    pub ports: Vec<Port>,
    /// `[encapsulation]`
    pub encapsulation: Encapsulation,
    /// `[icmp]`
    pub icmp: Icmp,
    /// `[conntrack]`
    pub conntrack: Conntrack,
    /// `[fragments]`
    pub fragments: Fragments,
    /// `[[pool]]`, in the order of the file, ids unique.
    pub pools: Vec<Pool>,
    /// `[[vip]]`, in the order of the file; no two match the same packet with equal rank.
    pub vips: Vec<Vip>,
    /// `[controller]`: pools and VIPs come from there, and those of the file are empty.
    pub controller: Option<ControllerClient>,
}

/// Who this node is, and where it keeps and shows its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name in metrics and logs.
    pub name: String,
    /// The failure domain it stands in.
    pub zone: String,
    /// Where the admin HTTP server listens; without a token a loopback address.
    pub admin: SocketAddr,
    /// Holds the bearer token that the admin HTTP server asks for; absolute.
    pub admin_token_file: Option<PathBuf>,
    /// Where the node keeps files between runs; an absolute path.
    pub state_dir: PathBuf,
}

/// How DPDK is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Memory for packet buffers and tables of this process, in MiB.
    pub memory_mib: u32,
    /// Whether that memory is hugepages.
    pub hugepages: bool,
    /// The core of the control thread.
    pub main_core: u16,
    /// One worker on each; not empty, no core twice.
    pub worker_cores: Vec<u16>,
    /// Further EAL arguments, passed through untouched; none holds a NUL.
    pub eal_args: Vec<String>,
    /// What a worker does when no packet came.
    pub idle: Idle,
    /// The EAL file prefix, a plain file name; every process on a machine needs its own.
    pub file_prefix: String,
    /// What happens when a device has fewer queues than there are workers.
    pub fewer_queues: FewerQueues,
}

/// What a worker does when no packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: least latency, a whole core.
    Spin,
    /// Pauses, then sleeps briefly.
    Backoff,
}

/// What happens when a device has fewer queues than there are workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FewerQueues {
    /// The node does not start.
    Refuse,
    /// The device is served by as many workers as it has queues.
    Use,
}

/// The outer one of two tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterVlan {
    /// 1 to 4094.
    pub identifier: u16,
    /// What kind of tag it is.
    pub protocol: VlanProtocol,
}

/// What kind of tag the outer one of two is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanProtocol {
    /// A service tag, EtherType 0x88a8.
    Ieee8021ad,
    /// Like the inner one, EtherType 0x8100.
    Ieee8021q,
}

/// One network port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port's name in metrics and logs.
    pub name: String,
    /// A DPDK device string, or a PCI address; not empty, no blanks.
    pub device: String,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// The address to use in place of the device's own; unicast.
    pub mac: Option<MacAddress>,
    /// The 802.1Q tag to expect and to write, 1 to 4094; inside `outer_vlan`, if that is there.
    pub vlan: Option<u16>,
    /// The tag around it (QinQ); only where `vlan` is.
    pub outer_vlan: Option<OuterVlan>,
    /// The node's own addresses here, each with the prefix that is on-link; at least one.
    pub addresses: Vec<IpNet>,
    /// Next hops for what is not on-link; each is on-link itself.
    pub gateways: Vec<IpAddr>,
    /// Neighbours that need no ARP or NDP; each is on-link, none twice.
    pub neighbors: Vec<Neighbor>,
    /// Descriptors of one receive queue; a power of two.
    pub rx_descriptors: u16,
    /// Descriptors of one transmit queue; a power of two.
    pub tx_descriptors: u16,
    /// What the device says of checksums of received packets is used.
    pub checksum_offload: bool,
    /// Packet buffers for all queues of the port together; `None`: the data plane's choice.
    pub mbufs: Option<u32>,
    /// The interface of the kernel for packets that are the host's; `None`: they are dropped.
    pub exception: Option<Exception>,
}

/// A port's interface of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its name, at most 15 bytes; made when the node starts.
    pub interface: String,
    /// What connects it with the node.
    pub driver: ExceptionDriver,
}

/// What connects an interface of the kernel with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionDriver {
    /// A TAP device: a system call a packet, and needs nothing but `/dev/net/tun`.
    Tap,
    /// virtio-user over vhost in the kernel: needs `/dev/vhost-net`.
    VirtioUser,
}

/// A static neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Its IP address, on-link.
    pub address: IpAddr,
    /// Its MAC address, unicast.
    pub mac: MacAddress,
}

/// The outer header of encapsulated packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// Outer IPv4 source; `None`: the address of the port the packet leaves by.
    pub source_v4: Option<Ipv4Addr>,
    /// Outer IPv6 source; `None` as for IPv4.
    pub source_v6: Option<Ipv6Addr>,
    /// Prefix from which the flow hash draws the outer IPv4 source, but for GUE; no host bits set.
    pub source_entropy_v4: Option<Ipv4Net>,
    /// The same for IPv6.
    pub source_entropy_v6: Option<Ipv6Net>,
    /// UDP destination port of GUE.
    pub gue_port: u16,
    /// Whether GUE over IPv6 has a UDP checksum.
    pub gue_checksum_v6: bool,
    /// Whether the outer IPv4 header says "don't fragment".
    pub dont_fragment: bool,
    /// What is done with packets too long for it whose sender does not find out.
    pub oversize: Oversize,
    /// Outer TTL or hop limit, 1 to 255.
    pub outer_ttl: u8,
}

/// The connection tracking tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Flows the whole node can hold.
    pub flows: u32,
}

/// ICMP errors: what is handed to backends, and what the node says itself. Rates are for each
/// worker and second; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Errors to VIPs that are handed to the backends of the flows they quote.
    pub delivered_per_second: u32,
    /// Errors of the node's own.
    pub sent_per_second: u32,
    /// Of these, to one source prefix (/24, /56).
    pub sent_per_prefix: u32,
    /// A packet to a VIP's address that no VIP takes, or whose pool has no backend for it, is
    /// answered with port unreachable.
    pub port_unreachable: bool,
}

/// What is done with a packet that does not fit its link once encapsulated, and whose sender does
/// not find out its path's MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// The outer packet is fragmented.
    Fragment,
    /// It is dropped.
    Drop,
}

/// The largest MSS that a client's SYN may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssClamp {
    /// So many bytes.
    To(u16),
    /// What fits one packet to the backend.
    Auto,
}

/// How fragments of datagrams to VIPs are dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragments {
    /// What becomes of those that come before their datagram's first.
    pub early: EarlyFragments,
    /// How long one of them waits for it, in milliseconds; at most `timeout_ms`.
    pub wait_ms: u32,
    /// How long a datagram is remembered from its first fragment seen, in milliseconds.
    pub timeout_ms: u32,
}

/// What becomes of fragments that come before their datagram's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyFragments {
    /// They wait for it.
    Wait,
    /// The datagram goes by the hash of source, destination and protocol.
    Hash,
}

/// A set of backends, and how flows are spread over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pool's name.
    pub id: String,
    /// How a flow finds its backend.
    pub scheduler: Scheduler,
    /// Slots of the table; prime, and at least as many as backends with a weight.
    pub table_size: u32,
    /// How packets reach a backend.
    pub forwarding: Forwarding,
    /// GUE's variant, 0 or 1; 1 where packets do not go by GUE.
    pub gue_variant: u8,
    /// GUE headers name who had a flow's slot before; variant 0 and Maglev only.
    pub second_chance: bool,
    /// Key of the flow hash.
    pub hash_secret: HashSecret,
    /// How long flows of a draining backend go on.
    pub drain: Duration,
    /// In the order of the file, ids unique; may be empty.
    pub backends: Vec<Backend>,
    /// `[[pool.quic]]`: how the servers make QUIC connection ids; numbers unique, may be empty.
    pub quic: Vec<QuicConfiguration>,
}

/// One way in which a pool's servers make QUIC connection ids (draft-ietf-quic-load-balancers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicConfiguration {
    /// The number in the first three bits, 0 to 6.
    pub config_id: u8,
    /// Octets of the server id, 1 to 15.
    pub server_id_length: u8,
    /// Octets of the nonce, from 4; with the server id at most 19.
    pub nonce_length: u8,
    /// The key of both; `None`: plain text.
    pub key: Option<QuicKey>,
    /// Whether the first octet gives the length of the rest.
    pub self_encoded_length: bool,
}

/// How a flow finds its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Maglev's lookup table.
    Maglev,
    /// A consistent hash ring.
    Ring,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// IP in IP, RFC 2003 and RFC 2473.
    Ipip,
    /// Generic Routing Encapsulation, RFC 2784.
    Gre,
    /// Generic UDP Encapsulation.
    Gue,
    /// Destination MAC rewritten; every backend is on-link.
    L2dsr,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The stable name that its share of the table comes from.
    pub id: String,
    /// Where its packets go.
    pub address: IpAddr,
    /// Its share relative to the other backends; 0: no new flows.
    pub weight: u16,
    /// Whether it takes new flows.
    pub state: BackendState,
    /// What it is called in QUIC connection ids; each is of one backend of the pool only, and as
    /// long as the server ids of one of its configurations.
    pub quic_server_ids: Vec<QuicServerId>,
}

/// Whether a backend takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// Takes new flows.
    Active,
    /// Takes no new flows; existing ones go on.
    Drain,
}

/// What clients dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// One address or a prefix, no host bits set.
    pub address: IpNet,
    /// Which destination ports.
    pub port: VipPort,
    /// Which protocol.
    pub protocol: Protocol,
    /// Id of a pool of the same [`Config`].
    pub pool: String,
    /// When idle flows of this VIP are forgotten.
    pub timeouts: Timeouts,
    /// What a client is known by; [`Affinity::Quic`] with [`Protocol::Udp`] only.
    pub affinity: Affinity,
    /// The largest MSS that a client's SYN may name; `None`: any.
    pub mss_clamp: Option<MssClamp>,
}

/// What a client is known by, when a backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The 5-tuple.
    Flow,
    /// The source address.
    Source,
    /// The server id in its QUIC connection id, else the 5-tuple.
    Quic,
}

/// The destination ports of a VIP. An exact port outranks a range, a range outranks `Any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VipPort {
    /// One port, not 0.
    Exact(u16),
    /// From `first` to `last`, both included; `first < last`, neither is 0.
    Range {
        /// Lowest port.
        first: u16,
        /// Highest port.
        last: u16,
    },
    /// All ports.
    Any,
}

/// The protocol of a VIP. At equal ports, TCP or UDP outranks `Any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// Every protocol.
    Any,
}

/// When idle flows are forgotten; whole seconds, 1 to 86,400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, only a SYN seen.
    pub syn_received: Duration,
    /// TCP, open.
    pub established: Duration,
    /// TCP, closing.
    pub fin_wait: Duration,
    /// TCP, closed.
    pub time_wait: Duration,
    /// UDP.
    pub udp_idle: Duration,
}

impl Port {
    /// Whether the port has an IPv6 address, or a gateway that has one.
    pub fn speaks_ipv6(&self) -> bool {
        let own = self.addresses.iter().map(IpNet::addr);
        own.chain(self.gateways.iter().copied()).any(|address| address.is_ipv6())
    }

    /// Whether `address` is on-link: inside the prefix of one of the port's own addresses.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.contains(&address))
    }
}

impl Backend {
    /// Whether new flows may choose this backend.
    pub fn takes_new_flows(&self) -> bool {
        self.state == BackendState::Active && self.weight > 0
    }
}

/// `203.0.113.1:80/tcp`, `203.0.113.0/28:any/udp`, `[2001:db8::1]:8000-8099/any`: the form
/// used in metrics, logs and `replay --json`. The length of a whole-address prefix is left
/// out.
impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.address.addr().is_ipv6() { ("[", "]") } else { ("", "") };
        let Self { port, protocol, .. } = self;
        if self.address.prefix_len() == self.address.max_prefix_len() {
            write!(f, "{open}{}{close}:{port}/{protocol}", self.address.addr())
        } else {
            write!(f, "{open}{}{close}:{port}/{protocol}", self.address)
        }
    }
}

impl fmt::Display for VipPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(port) => write!(f, "{port}"),
            Self::Range { first, last } => write!(f, "{first}-{last}"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        })
    }
}

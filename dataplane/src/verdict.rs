//! What became of a packet.
//!
//! [`DropReason`] is the one list of reasons: each variant is a counter, a value in
//! `replay --json`, a label in `/metrics`, and a row in `docs/drop-reasons.md`.

/// No VIP was found (or none was looked for).
pub const NO_VIP: u32 = u32::MAX;
/// No backend was chosen.
pub const NO_BACKEND: u32 = u32::MAX;

/// What the node did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on to a backend.
    Forward,
    /// Answered by the node itself.
    Reply,
    /// Meant for the node and consumed by it.
    Host,
    /// Queued until the next hop's address is known.
    Hold,
    /// Given to the worker that has its flow, which counts what becomes of it.
    HandOff,
    /// Dropped and counted.
    Drop(DropReason),
}

impl Verdict {
    /// The word for `replay --json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reply => "reply",
            Self::Host => "host",
            Self::Hold => "hold",
            Self::HandOff => "handoff",
            Self::Drop(_) => "drop",
        }
    }
}

/// A verdict and what it was based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was done.
    pub verdict: Verdict,
    /// Index of the VIP, or [`NO_VIP`].
    pub vip: u32,
    /// Index of the backend, or [`NO_BACKEND`].
    pub backend: u32,
}

impl Outcome {
    /// An outcome reached before any VIP was known.
    pub const fn early(verdict: Verdict) -> Self {
        Self { verdict, vip: NO_VIP, backend: NO_BACKEND }
    }
}

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [DropReason] = &[$(Self::$variant,)*];

            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The reason's name in metrics, documents and `replay --json`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for the operator.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    Segmented "segmented" "The packet came in several buffers and did not fit into one.";
    FrameTooShort "frame_too_short" "The frame ends inside its Ethernet or VLAN header.";
    OtherHostMac "other_host_mac" "The frame is addressed to another host's MAC address.";
    LinkBroadcast "link_broadcast" "An IP packet in a broadcast or multicast frame.";
    MulticastSourceMac "multicast_source_mac" "The frame's source MAC address is a group address.";
    OtherVlan "other_vlan" "The frame carries VLAN tags other than the port's.";
    UnknownEthertype "unknown_ethertype" "Neither IPv4, IPv6 nor ARP.";
    BadArp "bad_arp" "A malformed ARP packet.";
    ForeignArp "foreign_arp" "An ARP request for an address that is not the node's.";
    BadNdp "bad_ndp" "A malformed message of neighbour discovery, or one that came through a router.";
    ForeignNdp "foreign_ndp" "A neighbour solicitation for an address that is not the node's.";
    BadIpVersion "bad_ip_version" "The IP version does not match the Ethertype.";
    BadIpHeaderLength "bad_ip_header_length" "The IPv4 header is shorter than 20 bytes or longer than the packet.";
    BadIpLength "bad_ip_length" "The IP length is shorter than the header or longer than the frame.";
    BadIpChecksum "bad_ip_checksum" "The IPv4 header checksum is wrong.";
    BadIpOptions "bad_ip_options" "Malformed IPv4 options.";
    SourceRoute "source_route" "An IPv4 source route option, or an IPv6 routing header with segments left.";
    BadExtensionHeader "bad_extension_header" "Malformed IPv6 extension headers.";
    ExtensionHeaderLimit "extension_header_limit" "More than 8 IPv6 extension headers, or more than 512 bytes of them.";
    MartianSource "martian_source" "The source address can never send packets (RFC 1122, 4291, 6890).";
    MartianDestination "martian_destination" "The destination address can never receive packets here.";
    Land "land" "Source and destination address are the same.";
    BadFragment "bad_fragment" "A fragment that is empty, not a multiple of 8 bytes and not the last, or reaches beyond 65,535 bytes.";
    TinyFragment "tiny_fragment" "A first fragment without its whole transport header, or a TCP fragment at offset 8 (RFC 1858).";
    BadTcpHeader "bad_tcp_header" "The TCP header is truncated or its data offset impossible.";
    BadUdpHeader "bad_udp_header" "The UDP header is truncated.";
    BadUdpLength "bad_udp_length" "The UDP length is below 8 or beyond the IP packet.";
    BadIcmp "bad_icmp" "The ICMP message is truncated or its checksum wrong.";
    IcmpUnsupported "icmp_unsupported" "An ICMP message other than an echo request or an error that hosts act on.";
    IcmpBadQuote "icmp_bad_quote" "An ICMP error whose quoted packet is cut short, malformed, or from another address than the error went to.";
    IcmpQuotedFragment "icmp_quoted_fragment" "An ICMP error about a later fragment, which names no ports.";
    IcmpAboutIcmp "icmp_about_icmp" "An ICMP error about an ICMP message, which no backend sends from a VIP.";
    IcmpNoFlow "icmp_no_flow" "An ICMP error about a packet of no VIP.";
    IcmpTunnelError "icmp_tunnel_error" "An ICMP error about the node's own encapsulated packet.";
    IcmpErrorLimited "icmp_error_limited" "More ICMP errors to VIPs than a worker hands to backends in a second.";
    IcmpRateLimited "icmp_rate_limited" "More echo requests than the node answers in a second.";
    NdpRateLimited "ndp_rate_limited" "More neighbour solicitations than the node answers in a second.";
    ArpRateLimited "arp_rate_limited" "More ARP requests than the node answers in a second.";
    ResetRateLimited "reset_rate_limited" "More resets due than the node sends in a second.";
    IcmpFragment "icmp_fragment" "A fragment of an ICMP message to a VIP.";
    FragmentOverlap "fragment_overlap" "Of a datagram whose fragments overlap or contradict each other (RFC 5722).";
    FragmentDuplicate "fragment_duplicate" "A copy of a fragment that already waits.";
    FragmentTimeout "fragment_timeout" "The first fragment of its datagram did not come in time.";
    FragmentNoRoom "fragment_no_room" "Too many fragments wait for the first of their datagrams.";
    NoVip "no_vip" "Addressed to no known VIP and not to the node.";
    NoExceptionPath "no_exception_path" "Meant for the node's own kernel, and no exception path is set up.";
    ExceptionVip "exception_vip" "To or from a VIP, on its way from or to the node's own kernel.";
    ExceptionTooBig "exception_too_big" "Longer than the interface of the node's own kernel, or the port beyond it, takes.";
    ExceptionRateLimited "exception_rate_limited" "More packets of their kind for the node's own kernel than it is given in a second.";
    ExceptionFull "exception_full" "The queue to the node's own kernel was full.";
    NoBackend "no_backend" "The pool has no eligible backend.";
    NoRoute "no_route" "The backend is not on-link, and no gateway is configured.";
    TtlExpired "ttl_expired" "The time to live, or hop limit, would reach 0.";
    TooBig "too_big" "Too long for the link once encapsulated.";
    NoHeadroom "no_headroom" "No room in front of the packet for the outer header.";
    BackendEvicted "backend_evicted" "A reset, or an ICMP error, of a flow whose backend was evicted.";
    NeighbourQueueFull "neighbour_queue_full" "Too many packets wait for the next hop's address.";
    NeighbourUnresolved "neighbour_unresolved" "The next hop's address did not become known in time.";
    TransmitFull "transmit_full" "The device's transmit queue was full.";
    NoBuffer "no_buffer" "The buffer pool ran dry.";
    HandoffFull "handoff_full" "The worker that has the packet's flow did not take it in time.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }

    #[test]
    fn reasons_index_their_counters() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}

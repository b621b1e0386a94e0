//! Which MTU a device gets: what its driver states, and what is known of the drivers that state less
//! than they carry.
//!
//! A NIC is believed, and so are most virtual devices. `net_af_packet` states 1500 bytes whatever
//! its ring has room for, and `net_memif` whatever its peer takes, which can be a chain of buffers:
//! these are told what they state, or the library would refuse, and carry more. Everything else is
//! refused what it does not state; `net_tap` would take nothing behind a frame that is too long.

use super::device::LONGEST_LINK_HEADER;

/// What a device is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceMtu {
    /// What the driver is configured with.
    pub(super) told: u16,
    /// The longest IP packet that passes.
    pub(super) carried: u16,
}

/// What a driver says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    /// Bytes of the longest frame, with its checksum.
    pub(super) longest_frame: u32,
    /// Bytes of the longest IP packet; 65,535: it does not say.
    pub(super) longest_packet: u16,
    /// Bytes of the least MTU.
    pub(super) shortest_packet: u16,
}

impl Stated {
    /// Bytes of the longest IP packet, by both.
    fn mtu(self) -> u16 {
        let overhead = match self.longest_packet {
            0 | u16::MAX => ETHERNET_OVERHEAD,
            mtu => self.longest_frame.saturating_sub(u32::from(mtu)).max(ETHERNET_OVERHEAD),
        };
        let by_frame = self.longest_frame.saturating_sub(overhead);
        u16::try_from(by_frame).unwrap_or(u16::MAX).min(self.longest_packet)
    }
}

/// The MTU for a device of `driver` that is to carry `wanted` bytes.
///
/// # Errors
/// The most that the device carries, where that is less.
pub(super) fn decide(
    device: &str,
    driver: &str,
    wanted: u16,
    stated: Stated,
) -> Result<DeviceMtu, u16> {
    let offered = stated.mtu();
    // A driver that offers less than the least it takes says nothing.
    if wanted <= offered || offered < stated.shortest_packet {
        return Ok(DeviceMtu { told: wanted, carried: wanted });
    }
    let carries = match driver {
        "net_af_packet" => af_packet_mtu(device),
        "net_memif" => u16::MAX,
        _ => offered,
    };
    if wanted <= carries {
        return Ok(DeviceMtu { told: offered, carried: wanted });
    }
    Err(carries)
}

/// Bytes of the buffers without which the device's driver does not start.
pub(super) fn least_buffer(device: &str) -> u32 {
    if device.starts_with("net_af_packet") { af_packet_frame(device) } else { 0 }
}

/// What can be done when the device carries too little.
pub(super) fn hint(device: &str) -> &'static str {
    if device.starts_with("net_af_packet") {
        ": give it larger frames, such as framesz=12288,blocksz=12288 for mtu = 9000, and its \
         interface that MTU (ip link set dev ... mtu 9000)"
    } else if device.starts_with("net_tap") {
        " (this is the driver's limit; net_af_packet and net_memif carry more)"
    } else {
        ""
    }
}

/// Bytes of an Ethernet header and its checksum.
const ETHERNET_OVERHEAD: u32 = 18;

/// Bytes of a slot of the ring, `framesz` or the driver's default.
fn af_packet_frame(device: &str) -> u32 {
    let size = device.split(',').find_map(|argument| argument.strip_prefix("framesz="));
    size.and_then(|size| size.parse().ok()).unwrap_or(2048)
}

/// The longest IP packet for a slot: before the frame is the kernel's header of a slot, at most 80
/// bytes to where the IP packet starts (TPACKET2_HDRLEN, aligned, and an Ethernet header), and the
/// driver puts back a tag that the kernel has taken out.
fn af_packet_mtu(device: &str) -> u16 {
    let longest = af_packet_frame(device).saturating_sub(80 + LONGEST_LINK_HEADER as u32);
    u16::try_from(longest).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(
        device: &str,
        driver: &str,
        wanted: u16,
        stated: (u32, u16),
    ) -> Result<(u16, u16), u16> {
        let (longest_frame, longest_packet) = stated;
        let stated = Stated { longest_frame, longest_packet, shortest_packet: 68 };
        decide(device, driver, wanted, stated).map(|mtu| (mtu.told, mtu.carried))
    }

    #[test]
    fn a_device_is_believed_but_for_those_known_to_understate() {
        const ANY: u16 = u16::MAX;
        // What DPDK 22.11 states.
        for (device, driver, wanted, stated, expected) in [
            ("0000:3b:00.0", "net_ixgbe", 9000, (15_872, 15_854), Ok((9000, 9000))),
            ("0000:00:03.0", "net_virtio", 9000, (1518, 1500), Err(1500)),
            ("net_tap0,iface=weir0", "net_tap", 1500, (1522, ANY), Ok((1500, 1500))),
            ("net_tap0,iface=weir0", "net_tap", 9000, (1522, ANY), Err(1504)),
            ("net_ring0", "net_ring", 9000, (u32::MAX, ANY), Ok((9000, 9000))),
            ("net_memif0", "net_memif", 9000, (1518, ANY), Ok((1500, 9000))),
            ("net_af_xdp0,iface=a", "net_af_xdp", 9000, (3560, 3542), Err(3542)),
            ("net_af_packet0,iface=a", "net_af_packet", 1500, (1518, ANY), Ok((1500, 1500))),
            ("net_af_packet0,iface=a", "net_af_packet", 1946, (1518, ANY), Ok((1500, 1946))),
            ("net_af_packet0,iface=a", "net_af_packet", 9000, (1518, ANY), Err(1946)),
            (
                "net_af_packet0,iface=a,framesz=12288,blocksz=12288",
                "net_af_packet",
                9000,
                (1518, ANY),
                Ok((1500, 9000)),
            ),
            ("net_none0", "net_none", 9000, (0, 0), Ok((9000, 9000))),
        ] {
            assert_eq!(decided(device, driver, wanted, stated), expected, "{device} {wanted}");
        }
    }
}

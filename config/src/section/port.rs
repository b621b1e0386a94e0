//! `[[port]]`: a NIC, the node's addresses on it, and who is next to it.

use super::address::{not_a_host_of, not_unicast};
use crate::MacAddress;
use crate::model::{Exception, ExceptionDriver, Neighbor, OuterVlan, Port, VlanProtocol};
use crate::reader::Reader;
use crate::report::{Reported, quote};
use crate::schema::Key;
use crate::schema::keys::{NEIGHBOR, neighbor, port as keys};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;

/// A port, with the lines that checks across sections point at.
pub(crate) struct PortEntry {
    pub(crate) port: Port,
    pub(crate) line: usize,
    pub(crate) device_line: usize,
    pub(crate) mbufs_line: usize,
    pub(crate) exception_line: usize,
    /// Line of each of the port's addresses.
    pub(crate) address_lines: Vec<usize>,
}

pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<PortEntry, Reported> {
    let name = reader.name(&keys::NAME);
    let device = read_device(&mut reader);
    let mtu = reader.integer(&keys::MTU);
    let mac = match reader.optional_notation(&keys::MAC) {
        Ok(Some(mac)) => read_unicast(&mut reader, &keys::MAC, mac).map(Some),
        other => other,
    };
    let vlan = reader.optional_integer(&keys::VLAN);
    let outer_vlan = read_outer_vlan(&mut reader);
    let exception = read_exception(&mut reader);
    let rx_descriptors = read_descriptors(&mut reader, &keys::RX_DESCRIPTORS);
    let tx_descriptors = read_descriptors(&mut reader, &keys::TX_DESCRIPTORS);
    let mbufs = reader.optional_integer(&keys::MBUFS);
    let checksum_offload = reader.boolean(&keys::CHECKSUM_OFFLOAD);
    let addresses = read_addresses(&mut reader);
    // What is on-link is only known once the addresses are.
    let own = addresses.as_deref().ok();
    let gateways = read_gateways(&mut reader, own);
    let neighbors = read_neighbors(&mut reader, own);
    if let (Ok(mtu), Some(own)) = (&mtu, own)
        && *mtu < 1280
        && own.iter().any(|net| net.addr().is_ipv6())
    {
        let message = format!("mtu = {mtu} is below IPv6's minimum of 1280 bytes");
        reader.warning(&keys::MTU, &message);
    }
    if let (Ok(mtu), Ok(device)) = (&mtu, &device)
        && let Some(most) = most_of_virtual(device)
        && *mtu > most
    {
        let message = format!(
            "mtu = {mtu} is more than device = {} carries (DPDK 22.11: {most} bytes), and weir run \
             would refuse it",
            quote(device)
        );
        reader.warning(&keys::MTU, &message);
    }
    let addresses = addresses?;
    let address_lines =
        (0..addresses.len()).map(|index| reader.item_line(&keys::ADDRESSES, index)).collect();
    let port = Port {
        name: name?,
        device: device?,
        mtu: mtu?,
        mac: mac?,
        vlan: vlan?,
        outer_vlan: outer_vlan?,
        addresses,
        gateways: gateways?,
        neighbors: neighbors?,
        rx_descriptors: rx_descriptors?,
        tx_descriptors: tx_descriptors?,
        mbufs: mbufs?,
        checksum_offload: checksum_offload?,
        exception: exception?,
    };
    Ok(PortEntry {
        port,
        line: reader.line(),
        device_line: reader.line_of(&keys::DEVICE),
        exception_line: reader.line_of(&keys::EXCEPTION),
        mbufs_line: reader.line_of(&keys::MBUFS),
        address_lines,
    })
}

/// The largest MTU of the virtual devices that are known to have a limit; the driver has the last
/// word.
fn most_of_virtual(device: &str) -> Option<u16> {
    if device.starts_with("net_tap") {
        return Some(1504);
    }
    let arguments = device.strip_prefix("net_af_packet")?;
    // A slot of its ring holds the kernel's header of it, too, and the link header.
    let frame = arguments.split(',').find_map(|argument| argument.strip_prefix("framesz="));
    let frame: u32 = frame.map_or(Some(2048), |frame| frame.parse().ok())?;
    Some(u16::try_from(frame.saturating_sub(102)).unwrap_or(u16::MAX))
}

fn read_outer_vlan(reader: &mut Reader<'_, '_>) -> Result<Option<OuterVlan>, Reported> {
    let meanings = [("802.1ad", VlanProtocol::Ieee8021ad), ("802.1q", VlanProtocol::Ieee8021q)];
    let protocol = reader.choice(&keys::OUTER_VLAN_PROTOCOL, &meanings);
    let Some(identifier) = reader.optional_integer(&keys::OUTER_VLAN)? else {
        if reader.is_present(&keys::OUTER_VLAN_PROTOCOL) {
            let message = "outer_vlan_protocol has no effect without outer_vlan";
            reader.warning(&keys::OUTER_VLAN_PROTOCOL, message);
        }
        return protocol.map(|_| None);
    };
    if !reader.is_present(&keys::VLAN) {
        let expected = "vlan, too: the tag inside; a port with one tag has it in vlan";
        return Err(reader.fault(&keys::OUTER_VLAN, "has no tag to go around", expected));
    }
    Ok(Some(OuterVlan { identifier, protocol: protocol? }))
}

/// The longest name of an interface in Linux: IFNAMSIZ, less its NUL.
const LONGEST_INTERFACE: usize = 15;

fn read_exception(reader: &mut Reader<'_, '_>) -> Result<Option<Exception>, Reported> {
    let meanings = [("tap", ExceptionDriver::Tap), ("virtio_user", ExceptionDriver::VirtioUser)];
    let driver = reader.choice(&keys::EXCEPTION_DRIVER, &meanings);
    if !reader.is_present(&keys::EXCEPTION) {
        if reader.is_present(&keys::EXCEPTION_DRIVER) {
            let message = "exception_driver has no effect without exception";
            reader.warning(&keys::EXCEPTION_DRIVER, message);
        }
        return driver.map(|_| None);
    }
    let interface = reader.text(&keys::EXCEPTION)?;
    // DPDK splits a device's arguments at commas, and Linux allows more than anyone needs.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let plain = interface.bytes().all(allowed)
        && interface.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !plain || interface.len() > LONGEST_INTERFACE {
        let expected = "a name for a new interface of the kernel, 1 to 15 letters, digits and \
                        _ - ., a letter or digit first, such as \"weirx0\"";
        return Err(reader.fault(&keys::EXCEPTION, "is not one", expected));
    }
    Ok(Some(Exception { interface, driver: driver? }))
}

fn read_device(reader: &mut Reader<'_, '_>) -> Result<String, Reported> {
    let device = reader.text(&keys::DEVICE)?;
    let expected = "a DPDK device such as \"net_tap0,iface=weir0\", or a PCI address such as \
                    \"0000:3b:00.0\"";
    if device.is_empty() {
        return Err(reader.fault(&keys::DEVICE, "is empty", expected));
    }
    if device.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(reader.fault(&keys::DEVICE, "holds a blank", expected));
    }
    Ok(device)
}

fn read_unicast(
    reader: &mut Reader<'_, '_>,
    key: &Key,
    mac: MacAddress,
) -> Result<MacAddress, Reported> {
    if mac.is_unicast() {
        return Ok(mac);
    }
    let expected = "the address of one station: first byte even, not all zeros";
    Err(reader.fault(key, "is not a unicast address", expected))
}

/// Queue rings are indexed by masking, in the drivers and in hardware.
fn read_descriptors(reader: &mut Reader<'_, '_>, key: &Key) -> Result<u16, Reported> {
    let descriptors: u16 = reader.integer(key)?;
    if descriptors.is_power_of_two() {
        return Ok(descriptors);
    }
    let above = descriptors.next_power_of_two();
    let expected = format!("a power of two; nearest are {} and {above}", above / 2);
    Err(reader.fault(key, "is not a power of two", &expected))
}

/// Every neighbor, backend and VIP is compared with these lists.
fn check_length(reader: &mut Reader<'_, '_>, key: &Key, length: usize) -> Result<(), Reported> {
    const MOST: usize = 64;
    if length <= MOST {
        return Ok(());
    }
    Err(reader.fault(key, &format!("has {length} elements"), &format!("at most {MOST}")))
}

fn read_addresses(reader: &mut Reader<'_, '_>) -> Result<Vec<IpNet>, Reported> {
    let key = &keys::ADDRESSES;
    let addresses: Vec<IpNet> = reader.notations(key)?;
    check_length(reader, key, addresses.len())?;
    let mut reported = None;
    let mut seen = HashSet::new();
    for (index, net) in addresses.iter().enumerate() {
        let address = net.addr();
        if let Some(what) = not_unicast(address).or_else(|| not_a_host_of(net, address)) {
            reported = Some(reader.item_fault(key, index, what, "the address of one machine"));
        } else if !seen.insert(address) {
            reported = Some(reader.item_fault(key, index, "is there twice", "each address once"));
        }
    }
    if addresses.is_empty() {
        reported = Some(reader.fault(key, "holds no address", "at least one"));
    }
    reported.map_or(Ok(addresses), Err)
}

fn read_gateways(
    reader: &mut Reader<'_, '_>,
    own: Option<&[IpNet]>,
) -> Result<Vec<IpAddr>, Reported> {
    let key = &keys::GATEWAYS;
    let gateways: Vec<IpAddr> = reader.notations(key)?;
    check_length(reader, key, gateways.len())?;
    let mut reported = None;
    let mut seen = HashSet::new();
    for (index, &gateway) in gateways.iter().enumerate() {
        let expected = "the address of a machine on this port's link";
        if let Some(what) = not_next_to(own, gateway) {
            reported = Some(reader.item_fault(key, index, what, expected));
        } else if !seen.insert(gateway) {
            reported = Some(reader.item_fault(key, index, "is there twice", "each gateway once"));
        }
    }
    reported.map_or(Ok(gateways), Err)
}

fn read_neighbors(
    port: &mut Reader<'_, '_>,
    own: Option<&[IpNet]>,
) -> Result<Vec<Neighbor>, Reported> {
    let before = port.report.problem_count();
    let mut neighbors = Vec::new();
    let mut seen = HashSet::new();
    for at in port.tables(&keys::NEIGHBORS) {
        let label = format!("{}: neighbors", port.label());
        let mut reader = Reader::new(port.report, &NEIGHBOR, label, at);
        let address = read_neighbor_address(&mut reader, own, &mut seen);
        let mac = match reader.notation(&neighbor::MAC) {
            Ok(mac) => read_unicast(&mut reader, &neighbor::MAC, mac),
            Err(reported) => Err(reported),
        };
        if let (Ok(address), Ok(mac)) = (address, mac) {
            neighbors.push(Neighbor { address, mac });
        }
    }
    if port.report.problem_count() == before { Ok(neighbors) } else { Err(Reported) }
}

fn read_neighbor_address(
    reader: &mut Reader<'_, '_>,
    own: Option<&[IpNet]>,
    seen: &mut HashSet<IpAddr>,
) -> Result<IpAddr, Reported> {
    let key = &neighbor::ADDRESS;
    let address: IpAddr = reader.notation(key)?;
    if let Some(what) = not_next_to(own, address) {
        let expected = "the address of a machine on this port's link";
        return Err(reader.fault(key, what, expected));
    }
    if !seen.insert(address) {
        return Err(reader.fault(key, "is there twice", "each neighbor once"));
    }
    Ok(address)
}

/// Why `address` cannot be another machine's on the port's link, if it cannot. Without the
/// port's addresses (they were wrong) on-link is not judged.
fn not_next_to(own: Option<&[IpNet]>, address: IpAddr) -> Option<&'static str> {
    if let Some(what) = not_unicast(address) {
        return Some(what);
    }
    let own = own?;
    // Link-local addresses are on every link (RFC 4861 2.1), and the usual IPv6 gateways.
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return None;
    }
    if own.iter().any(|net| net.addr() == address) {
        return Some("is the node's own address");
    }
    let on_link: Vec<_> = own.iter().filter(|net| net.contains(&address)).collect();
    if on_link.is_empty() {
        return Some("is not on-link: in the prefix of none of the port's addresses");
    }
    on_link.into_iter().find_map(|net| not_a_host_of(net, address))
}

//! An Ethernet device: opened by name, configured, started, and closed when dropped.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::Arc;

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::Eal;
use super::error::{DpdkError, Errno};
use super::mempool::Mempool;
use super::mtu::{self, DeviceMtu, Stated};
use super::queue::Queue;
use crate::rss::Rss;
use crate::wire::ethernet::MacAddress;

/// How a device is set up.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// A DPDK device string (`net_tap0,iface=weir0`) or a PCI address.
    pub device: String,
    /// Queue pairs: one per worker.
    pub queues: u16,
    /// A device with fewer queues is used with those it has, instead of being refused.
    pub fewer_queues: bool,
    /// Bytes of an IP packet on this link.
    pub mtu: u16,
    /// A device that carries less is used as it is, instead of being refused.
    pub smaller_mtu: bool,
    /// The address to use in place of the device's own.
    pub mac: Option<MacAddress>,
    /// Frames to any group are received: IPv6 asks for neighbours by multicast.
    pub all_multicast: bool,
    /// The device's word on checksums of received packets is asked for, where it gives it.
    pub checksum_offload: bool,
    /// Receive descriptors per queue.
    pub rx_descriptors: u16,
    /// Transmit descriptors per queue.
    pub tx_descriptors: u16,
}

/// A device that has been opened but not configured: how many queues it could have is known.
#[derive(Debug)]
pub struct Device {
    opened: Arc<Opened>,
    options: DeviceOptions,
    queues: u16,
    mac: MacAddress,
}

/// The open device; closed when the last queue and the [`Device`] are gone.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) port: u16,
    /// Pools must outlive the queues that were set up with them.
    pools: std::sync::OnceLock<Vec<Mempool>>,
}

/// The device's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Packets received.
    pub received: u64,
    /// Packets transmitted.
    pub transmitted: u64,
    /// Packets the device dropped because the workers were too slow.
    pub missed: u64,
    /// Packets received with errors.
    pub receive_errors: u64,
    /// Packets that could not be transmitted.
    pub transmit_errors: u64,
    /// Receives that failed because the pool had no buffer.
    pub no_buffer: u64,
}

impl Device {
    /// Opens the device and finds out how many queue pairs it can have.
    ///
    /// # Errors
    /// When there is no such device, it is open already, or it has fewer queues than wanted
    /// (unless `fewer_queues`).
    pub fn open(_eal: &Eal, options: DeviceOptions) -> Result<Self, DpdkError> {
        let name = options.device.split(',').next().unwrap_or_default();
        let c_name = c_string(name)?;
        let mut port = 0u16;
        // SAFETY: a C string and a place for the result.
        let known = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut port) };
        if known == 0 && !is_pci(name) {
            return Err(DpdkError::DeviceTwice(options.device));
        }
        if known != 0 {
            let arguments = c_string(&options.device)?;
            // SAFETY: a C string that DPDK parses and copies.
            let probed = unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) };
            // SAFETY: as above.
            let found =
                unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut port) };
            if probed < 0 || found != 0 {
                let errno = Errno::from_return(if probed < 0 { probed } else { found });
                return Err(DpdkError::NoDevice { device: options.device, errno });
            }
        }
        let opened = Arc::new(Opened { port, pools: std::sync::OnceLock::new() });
        let information = opened.information(&options.device)?;
        let offered = information.max_rx_queues.min(information.max_tx_queues);
        if offered == 0 || (offered < options.queues && !options.fewer_queues) {
            return Err(DpdkError::FewerQueues {
                device: options.device,
                offered,
                wanted: options.queues,
            });
        }
        let queues = offered.min(options.queues);
        Ok(Self { opened, options, queues, mac: MacAddress::default() })
    }

    /// Queue pairs the device can serve, at most as many as were asked for.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// Bytes of the buffers that this device needs: for the longest frame it will give or be given,
    /// or what its driver insists on.
    pub fn frame_bytes(&self) -> u32 {
        // Ethernet header, two tags, and what some drivers add for the checksum.
        let frame = u32::from(self.options.mtu) + LONGEST_LINK_HEADER as u32 + 4;
        frame.max(mtu::least_buffer(&self.options.device))
    }

    /// The MTU that the device gets.
    fn mtu(&self, information: &rte_eth_dev_info) -> Result<DeviceMtu, DpdkError> {
        let DeviceOptions { device, mtu: wanted, smaller_mtu, .. } = &self.options;
        let stated = Stated {
            longest_frame: information.max_rx_pktlen,
            longest_packet: information.max_mtu,
            shortest_packet: information.min_mtu,
        };
        match mtu::decide(device, driver(information), *wanted, stated) {
            Ok(mtu) => Ok(mtu),
            Err(offered) if *smaller_mtu => Ok(DeviceMtu { told: offered, carried: offered }),
            Err(offered) => Err(DpdkError::Mtu {
                device: device.clone(),
                wanted: *wanted,
                offered,
                hint: mtu::hint(device),
            }),
        }
    }

    /// Configures the device with one queue pair for each pool, and starts it.
    ///
    /// # Errors
    /// When the driver refuses a step; the error names it.
    pub fn start(mut self, pools: &[Mempool]) -> Result<StartedDevice, DpdkError> {
        let port = self.opened.port;
        let device = self.options.device.clone();
        let setup = |step: &'static str| {
            let device = device.clone();
            move |result: i32| {
                if result < 0 {
                    let errno = Errno::from_return(result);
                    return Err(DpdkError::Setup { device, step, errno });
                }
                Ok(())
            }
        };
        let queues = u16::try_from(pools.len()).unwrap_or(u16::MAX).min(self.queues);
        let information = self.opened.information(&device)?;
        let mtu = self.mtu(&information)?;
        let configuration =
            configuration(&information, queues, mtu, self.frame_bytes(), &self.options);
        // SAFETY: the port exists; DPDK copies the configuration.
        setup("configure")(unsafe {
            dpdk_sys::rte_eth_dev_configure(port, queues, queues, &configuration)
        })?;
        if mtu.told == mtu.carried {
            // SAFETY: the port exists and is stopped.
            let set = unsafe { dpdk_sys::rte_eth_dev_set_mtu(port, mtu.told) };
            if set < 0 && !Errno::from_return(set).is_unsupported() {
                setup("set the MTU")(set)?;
            }
        }
        let mut rx = self.options.rx_descriptors;
        let mut tx = self.options.tx_descriptors;
        // SAFETY: the port exists; rx and tx are in-out numbers.
        setup("adjust descriptors")(unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut rx, &mut tx)
        })?;
        // The queues keep pointers into the pools: hold on to them for as long.
        let _ = self.opened.pools.set(pools.to_vec());
        for (queue, pool) in (0..queues).zip(pools) {
            let socket = self.opened.socket() as u32;
            let rx_options = information.default_rxconf;
            // SAFETY: the port is configured with more than `queue` queues, the pool lives as
            // long as the device, DPDK copies the options.
            setup("set up a receive queue")(unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    port,
                    queue,
                    rx,
                    socket,
                    &rx_options,
                    pool.as_ptr(),
                )
            })?;
            let mut tx_options = information.default_txconf;
            tx_options.offloads = configuration.txmode.offloads;
            // SAFETY: as above.
            setup("set up a transmit queue")(unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(port, queue, tx, socket, &tx_options)
            })?;
        }
        if let Some(mac) = self.options.mac {
            let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac.0 };
            // SAFETY: the port exists; DPDK copies the address.
            setup("set the MAC address")(unsafe {
                dpdk_sys::rte_eth_dev_default_mac_addr_set(port, &mut address)
            })?;
        }
        // SAFETY: the port is configured and its queues are set up.
        setup("start")(unsafe { dpdk_sys::rte_eth_dev_start(port) })?;
        if self.options.all_multicast {
            self.opened.receive_all_multicast();
        }
        self.mac = match self.options.mac {
            Some(mac) => mac,
            None => self.opened.mac_address(&device)?,
        };
        self.queues = queues;
        Ok(StartedDevice { device: self, mtu: mtu.carried, taken: false })
    }
}

/// A device that receives and transmits.
#[derive(Debug)]
pub struct StartedDevice {
    device: Device,
    /// Less than was asked for where the device carries no more.
    mtu: u16,
    taken: bool,
}

impl StartedDevice {
    /// The queue pairs, one for each worker; empty at the second call, so that no queue is ever
    /// used by two.
    pub fn take_queues(&mut self) -> Vec<Queue> {
        if std::mem::replace(&mut self.taken, true) {
            return Vec::new();
        }
        let opened = &self.device.opened;
        let pools = opened.pools.get().map(Vec::as_slice).unwrap_or_default();
        let longest_frame = usize::from(self.mtu) + LONGEST_LINK_HEADER;
        (0..self.device.queues)
            .zip(pools)
            .map(|(queue, pool)| Queue::new(Arc::clone(opened), queue, pool.clone(), longest_frame))
            .collect()
    }

    /// The address frames to the node carry.
    pub fn mac(&self) -> MacAddress {
        self.device.mac
    }

    /// How the device spreads flows over its queues; `None` where the driver does not say, or
    /// there is but one queue.
    pub fn rss(&self) -> Option<Rss> {
        if self.device.queues < 2 {
            return None;
        }
        let information = self.device.opened.information(&self.device.options.device).ok()?;
        super::rss::read(self.device.opened.port, &information)
    }

    /// The device has carrier.
    pub fn link_up(&self) -> bool {
        let mut link = MaybeUninit::<dpdk_sys::rte_eth_link>::zeroed();
        // SAFETY: the port exists; the link is all integers, so zeroed is valid even where the
        // driver writes nothing.
        unsafe {
            dpdk_sys::rte_eth_link_get_nowait(self.device.opened.port, link.as_mut_ptr());
            link_status(&link.assume_init())
        }
    }

    /// From now on frames to any address are received, where the device can do that.
    pub fn receive_all(&self) {
        // SAFETY: the port exists and is started.
        unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.device.opened.port) };
    }

    /// The device's own counters, since its start.
    pub fn statistics(&self) -> DeviceStatistics {
        let mut statistics = dpdk_sys::rte_eth_stats::default();
        // SAFETY: the port exists; a place for the result, all integers.
        unsafe { dpdk_sys::rte_eth_stats_get(self.device.opened.port, &mut statistics) };
        DeviceStatistics {
            received: statistics.ipackets,
            transmitted: statistics.opackets,
            missed: statistics.imissed,
            receive_errors: statistics.ierrors,
            transmit_errors: statistics.oerrors,
            no_buffer: statistics.rx_nombuf,
        }
    }
}

fn link_status(link: &dpdk_sys::rte_eth_link) -> bool {
    link.link_status() == dpdk_sys::WEIR_LINK_UP
}

impl Opened {
    fn information(&self, device: &str) -> Result<rte_eth_dev_info, DpdkError> {
        let mut information = rte_eth_dev_info::default();
        // SAFETY: the port exists; a place for the result.
        let result = unsafe { dpdk_sys::rte_eth_dev_info_get(self.port, &mut information) };
        if result < 0 {
            return Err(DpdkError::Setup {
                device: device.to_owned(),
                step: "ask for its abilities",
                errno: Errno::from_return(result),
            });
        }
        Ok(information)
    }

    fn mac_address(&self, device: &str) -> Result<MacAddress, DpdkError> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: the port exists; a place for the result.
        let result = unsafe { dpdk_sys::rte_eth_macaddr_get(self.port, &mut address) };
        if result < 0 {
            return Err(DpdkError::Setup {
                device: device.to_owned(),
                step: "read the MAC address",
                errno: Errno::from_return(result),
            });
        }
        Ok(MacAddress(address.addr_bytes))
    }

    /// Has the device pass on frames to any group. A driver that cannot is asked for all frames,
    /// of which the path drops other stations'; one that can do neither is a virtual device, and
    /// has no filter.
    fn receive_all_multicast(&self) {
        // SAFETY: the port exists and is started.
        let refused = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.port) } < 0;
        if refused {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.port) };
        }
    }

    /// The NUMA node of the device; -1 where it has none.
    fn socket(&self) -> i32 {
        // SAFETY: the port exists.
        unsafe { dpdk_sys::rte_eth_dev_socket_id(self.port) }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the last queue is gone (each holds this value), so nobody is in a burst call;
        // stopping a device that never started is refused without harm.
        unsafe {
            dpdk_sys::rte_eth_dev_stop(self.port);
            dpdk_sys::rte_eth_dev_close(self.port);
        }
    }
}

/// The driver's name, such as `net_tap` or `net_ixgbe`.
fn driver(information: &rte_eth_dev_info) -> &str {
    if information.driver_name.is_null() {
        return "";
    }
    // SAFETY: a driver's name is a NUL-terminated string that lives as long as the driver, which
    // is never unloaded.
    unsafe { CStr::from_ptr(information.driver_name) }.to_str().unwrap_or_default()
}

/// Bytes of the buffers that every NIC knows, and frames of 1500 bytes fit.
const COMMON_BUFFER: u32 = 2048;

/// Bytes of an Ethernet header with two tags.
pub(super) const LONGEST_LINK_HEADER: usize = 22;

/// Receive-side scaling on the 5-tuple where there are several queues and the device has it,
/// and the offloads that the path makes use of.
fn configuration(
    information: &rte_eth_dev_info,
    queues: u16,
    mtu: DeviceMtu,
    frame_bytes: u32,
    options: &DeviceOptions,
) -> rte_eth_conf {
    let mut configuration = rte_eth_conf::default();
    let hash = dpdk_sys::WEIR_RSS_IP_TCP_UDP & information.flow_type_rss_offloads;
    if queues > 1 && hash != 0 {
        configuration.rxmode.mq_mode = dpdk_sys::WEIR_MQ_RX_RSS;
        configuration.rx_adv_conf.rss_conf.rss_hf = hash;
    }
    configuration.rxmode.mtu = u32::from(mtu.told);
    if options.checksum_offload {
        configuration.rxmode.offloads =
            dpdk_sys::WEIR_RX_OFFLOAD_IPV4_CKSUM & information.rx_offload_capa;
    }
    // Some NICs know buffers of certain sizes only, and give a long frame in several; the queue
    // makes it one. Not asked for without need: scattering has slower receive functions.
    if frame_bytes > COMMON_BUFFER {
        configuration.rxmode.offloads |=
            dpdk_sys::WEIR_RX_OFFLOAD_SCATTER & information.rx_offload_capa;
    }
    // Fast free asks that all mbufs of a queue come from one pool: a worker has one pool.
    configuration.txmode.offloads =
        dpdk_sys::WEIR_TX_OFFLOAD_MBUF_FAST_FREE & information.tx_offload_capa;
    configuration
}

/// `0000:3b:00.0` or `3b:00.0`: the form EAL takes devices by at its start.
pub fn is_pci(name: &str) -> bool {
    let (bus, function) = match name.rsplit_once('.') {
        Some(parts) => parts,
        None => return false,
    };
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups: Vec<&str> = bus.split(':').collect();
    (groups.len() == 2 || groups.len() == 3) && groups.into_iter().all(hex) && hex(function)
}

fn c_string(text: &str) -> Result<CString, DpdkError> {
    CString::new(text).map_err(|_| DpdkError::NulByte(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::is_pci;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert!(is_pci("0000:3b:00.0"));
        assert!(is_pci("3b:00.1"));
        assert!(!is_pci("net_tap0"));
        assert!(!is_pci("net_pcap0.1"));
        assert!(!is_pci(""));
    }
}

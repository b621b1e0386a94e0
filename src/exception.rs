//! The ports' interfaces to the kernel: DPDK devices made when the node starts, with the port's
//! own address and as many queue pairs as there are workers.

use std::path::Path;

use anyhow::Context;
use config::{Config, Exception, ExceptionDriver};
use control::node::PortFacts;
use dataplane::port::dpdk::{Device, DeviceOptions, Eal, Mempool, Queue, StartedDevice};
use tracing::info;

/// Descriptors of a queue to or from the kernel: several bursts; what is sent there is
/// rate-limited long before.
const DESCRIPTORS: u16 = 256;

/// The started interfaces, by port index. To be dropped after the workers, which have the queues.
pub(crate) struct Exceptions(Vec<Option<StartedDevice>>);

impl Exceptions {
    /// Makes an interface for each port that says so.
    pub(crate) fn start(
        eal: &Eal,
        config: &Config,
        facts: &[PortFacts],
        pools: &[Mempool],
    ) -> anyhow::Result<Self> {
        let queues = u16::try_from(pools.len()).unwrap_or(u16::MAX);
        let mut devices = Vec::new();
        for (port, facts) in config.ports.iter().zip(facts) {
            let Some(exception) = &port.exception else {
                devices.push(None);
                continue;
            };
            let mac = port.mac.map_or(facts.mac.0, |mac| mac.octets());
            let options = DeviceOptions {
                device: device_string(exception, mac, queues),
                queues,
                fewer_queues: false,
                mtu: port.mtu,
                smaller_mtu: true,
                mac: None,
                all_multicast: false,
                checksum_offload: false,
                rx_descriptors: DESCRIPTORS,
                tx_descriptors: DESCRIPTORS,
            };
            let interface = &exception.interface;
            let label = || format!("port \"{}\": exception = \"{interface}\"", port.name);
            if exception.driver == ExceptionDriver::VirtioUser {
                check_vhost(Path::new(VHOST)).with_context(label)?;
            }
            let device = Device::open(eal, options)
                .and_then(|device| device.start(pools))
                .with_context(label)?;
            if exception.driver == ExceptionDriver::VirtioUser {
                bring_up(Path::new(INTERFACES), interface, port.mtu).with_context(label)?;
            }
            info!(port = port.name, interface, "the kernel's packets go by this interface");
            devices.push(Some(device));
        }
        Ok(Self(devices))
    }

    /// Packet buffers of each worker that the queues of all interfaces hold.
    pub(crate) fn buffers(config: &Config) -> u32 {
        let interfaces = config.ports.iter().filter(|port| port.exception.is_some()).count() as u32;
        interfaces * 2 * u32::from(DESCRIPTORS)
    }

    /// The queue pairs: for each of `workers`, one by port index, whose buffers are of that worker's
    /// pool.
    pub(crate) fn take_queues(&mut self, workers: u16) -> Vec<Vec<Option<Queue>>> {
        let devices = self.0.iter_mut();
        let queues = devices.map(|device| device.as_mut().map(StartedDevice::take_queues));
        one_each(queues.collect(), workers)
    }
}

/// Queue `w` of every device to worker `w`. It matters which: a queue's buffers are of pool `w`, and
/// what the kernel sends leaves by transmit queue `w` of the port, which frees all that it has sent
/// to one pool.
fn one_each<Q>(queues: Vec<Option<Vec<Q>>>, workers: u16) -> Vec<Vec<Option<Q>>> {
    let mut queues: Vec<_> = queues.into_iter().map(|queues| queues.map(Vec::into_iter)).collect();
    let mut next = || queues.iter_mut().map(|queues| queues.as_mut()?.next()).collect();
    (0..workers).map(|_| next()).collect()
}

/// The kernel's side of virtio-user.
const VHOST: &str = "/dev/vhost-net";
/// Where the kernel shows its interfaces: those of the process's own network namespace.
const INTERFACES: &str = "/sys/class/net";
/// IFF_UP of `if.h`.
const UP: u32 = 1;

/// DPDK's own words about a kernel without vhost do not lead there.
fn check_vhost(device: &Path) -> anyhow::Result<()> {
    std::fs::File::options().read(true).write(true).open(device).map(drop).with_context(|| {
        format!(
            "exception_driver = \"virtio_user\" needs {}, which cannot be opened (expected the \
             kernel's vhost_net module, modprobe vhost_net, and root; or exception_driver = \
             \"tap\")",
            device.display()
        )
    })
}

/// Gives an interface the port's MTU and switches it on: the TAP driver does so itself.
fn bring_up(interfaces: &Path, interface: &str, mtu: u16) -> anyhow::Result<()> {
    let folder = interfaces.join(interface);
    let write = |name: &str, value: String| {
        let path = folder.join(name);
        std::fs::write(&path, value).with_context(|| path.display().to_string())
    };
    write("mtu", mtu.to_string())?;
    let path = folder.join("flags");
    let flags = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16)
        .with_context(|| format!("{}: {}", path.display(), flags.trim()))?;
    write("flags", format!("{:#x}", flags | UP))
}

/// What DPDK calls the device. The interface's name is part of it, so that each has its own.
fn device_string(exception: &Exception, mac: [u8; 6], queues: u16) -> String {
    let Exception { interface, driver } = exception;
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    match driver {
        ExceptionDriver::Tap => format!("net_tap_{interface},iface={interface},mac={mac}"),
        ExceptionDriver::VirtioUser => format!(
            "net_virtio_user_{interface},path=/dev/vhost-net,iface={interface},mac={mac},\
             queues={queues},queue_size={DESCRIPTORS}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_given_its_mtu_and_switched_on() {
        let folder = tempfile::tempdir().unwrap();
        let interface = folder.path().join("weirx0");
        std::fs::create_dir(&interface).unwrap();
        let said = |error: anyhow::Error| format!("{error:#}");
        assert!(bring_up(folder.path(), "weirx1", 9000).map_err(said).unwrap_err().contains("mtu"));
        std::fs::write(interface.join("flags"), "0x1002\n").unwrap();
        bring_up(folder.path(), "weirx0", 9000).unwrap();
        let read = |name| std::fs::read_to_string(interface.join(name)).unwrap();
        assert_eq!((read("mtu"), read("flags")), ("9000".to_owned(), "0x1003".to_owned()));
    }

    #[test]
    fn a_kernel_without_vhost_is_told_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_vhost(&folder.path().join("vhost-net")).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("modprobe vhost_net") && said.contains("\"tap\""), "{said}");
    }

    #[test]
    fn a_worker_has_the_queue_of_its_own_number_at_every_interface() {
        let queues = vec![Some(vec![0, 1, 2]), None, Some(vec![10, 11, 12])];
        let expected: Vec<_> =
            (0..3).map(|worker| vec![Some(worker), None, Some(10 + worker)]).collect();
        assert_eq!(one_each(queues, 3), expected);
        assert_eq!(one_each::<u8>(Vec::new(), 2), [vec![], vec![]]);
    }

    #[test]
    fn interfaces_are_made_with_the_ports_address() {
        let mut exception = Exception { interface: "weirx0".into(), driver: ExceptionDriver::Tap };
        assert_eq!(
            device_string(&exception, [2, 0, 0, 0, 0, 0xab], 1),
            "net_tap_weirx0,iface=weirx0,mac=02:00:00:00:00:ab"
        );
        exception.driver = ExceptionDriver::VirtioUser;
        assert_eq!(
            device_string(&exception, [2, 0, 0, 0, 0, 0xab], 4),
            "net_virtio_user_weirx0,path=/dev/vhost-net,iface=weirx0,mac=02:00:00:00:00:ab,\
             queues=4,queue_size=256"
        );
    }
}

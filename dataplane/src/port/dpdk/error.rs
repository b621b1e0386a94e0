//! What can go wrong between us and DPDK, in words an operator can act on.

use std::ffi::CStr;
use std::fmt;

use thiserror::Error;

/// An error of the environment, a device or a pool.
#[derive(Debug, Error)]
pub enum DpdkError {
    /// `rte_eal_init` failed.
    #[error("DPDK could not start: {errno}{}", hint(*errno))]
    Eal {
        /// DPDK's error number.
        errno: Errno,
    },
    /// The environment was started before in this process.
    #[error("DPDK starts once per process, and was started before")]
    EalTwice,
    /// An argument holds a NUL byte.
    #[error("{0:?} holds a NUL byte, which no DPDK argument may")]
    NulByte(String),
    /// The device does not exist or its driver refused it.
    #[error(
        "device \"{device}\": DPDK cannot open it ({errno}; its own messages are above){}: expected \
         a virtual device such as \"net_tap0,iface=weir0\", with its interface there if it names \
         an existing one, or the PCI address of a NIC bound to vfio-pci",
        unprivileged()
    )]
    NoDevice {
        /// The device as configured.
        device: String,
        /// DPDK's error number.
        errno: Errno,
    },
    /// Two ports of the configuration name the same device.
    #[error("device \"{0}\" is opened twice")]
    DeviceTwice(String),
    /// The device has fewer queues than there are workers.
    #[error(
        "device \"{device}\" has {offered} receive and transmit queue pairs, and {wanted} workers \
         want one each: give the device more queues, list fewer worker_cores, or set \
         fewer_queues = \"use\" in [dpdk]"
    )]
    FewerQueues {
        /// The device as configured.
        device: String,
        /// Queue pairs it has.
        offered: u16,
        /// Queue pairs asked for.
        wanted: u16,
    },
    /// One step of setting up the device failed.
    #[error("device \"{device}\": {step}: {errno}")]
    Setup {
        /// The device as configured.
        device: String,
        /// What was being done.
        step: &'static str,
        /// DPDK's error number.
        errno: Errno,
    },
    /// The device cannot carry packets as long as configured.
    #[error("device \"{device}\": mtu = {wanted}, but the device carries at most {offered}{hint}")]
    Mtu {
        /// The device as configured.
        device: String,
        /// The MTU asked for.
        wanted: u16,
        /// The longest it has.
        offered: u16,
        /// What can be done about it, or nothing.
        hint: &'static str,
    },
    /// Packet buffers could not be allocated.
    #[error(
        "no memory for {count} packet buffers of {size} bytes ({mib} MiB): {errno}; raise \
         memory_mib in [dpdk] (and reserve as many hugepages), or lower the port's mbufs"
    )]
    NoBuffers {
        /// Buffers asked for.
        count: u32,
        /// Bytes each, without DPDK's own header.
        size: u32,
        /// MiB in all, about.
        mib: u64,
        /// DPDK's error number.
        errno: Errno,
    },
    /// A table could not be allocated from DPDK's memory.
    #[error(
        "no memory for {what} ({mib} MiB): raise memory_mib in [dpdk] (and reserve as many \
         hugepages), or lower flows in [conntrack]"
    )]
    NoMemory {
        /// What was to be allocated.
        what: &'static str,
        /// MiB asked for.
        mib: u64,
    },
    /// A worker thread could not register itself.
    #[error("DPDK has no worker slot left: {0}")]
    NoWorkerSlot(Errno),
}

/// A DPDK error number, shown in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// From a negative return value, a positive number, or 0 and -1, where `rte_errno` has it.
    pub(super) fn from_return(value: i32) -> Self {
        match value {
            // SAFETY: reads a thread-local integer; no precondition.
            0 | -1 => Self(unsafe { dpdk_sys::weir_rte_errno() }.abs()),
            other => Self(other.abs()),
        }
    }

    /// `ENOTSUP`: the driver does not offer the call.
    pub(super) fn is_unsupported(self) -> bool {
        self.0 == libc::ENOTSUP
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror takes any number and returns a NUL-terminated string in
        // thread-local or static storage, which we copy before returning.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(formatter, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

/// What usually helps against a failed start.
fn hint(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EACCES | libc::EPERM => {
            ": run as root, or give the user access to the devices and to hugepages, of which there \
             must be as many as memory_mib in [dpdk] says (scripts/hugepages.sh reserves them; \
             hugepages = false runs without)"
        }
        libc::ENOMEM => {
            ": not enough hugepages for memory_mib (scripts/hugepages.sh reserves them), or set \
             hugepages = false in [dpdk] to run on ordinary pages"
        }
        libc::EINVAL => ": check memory_mib, main_core and eal_args in [dpdk]",
        libc::EALREADY => ": already started",
        _ => {
            ": are hugepages reserved (scripts/hugepages.sh), does the process run as root, and \
             are eal_args in [dpdk] right? hugepages = false runs without them"
        }
    }
}

/// A hint where the process is not root.
fn unprivileged() -> &'static str {
    // SAFETY: reads a number; no precondition.
    if unsafe { libc::geteuid() } == 0 { "" } else { ", and this process does not run as root" }
}

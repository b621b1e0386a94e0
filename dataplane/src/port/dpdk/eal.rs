//! The environment: started once, by one function, from typed options.

use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{DpdkError, Errno};

static STARTED: AtomicBool = AtomicBool::new(false);

/// How the environment starts.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// Memory of the process in MiB, reserved at the start.
    pub memory_mib: u32,
    /// `false`: ordinary pages (DPDK's `--no-huge`).
    pub hugepages: bool,
    /// The core the control thread is bound to.
    pub main_core: u32,
    /// Sets this process apart from other DPDK processes of the machine.
    pub file_prefix: String,
    /// PCI addresses the process may take; all others are left alone.
    pub pci_devices: Vec<String>,
    /// Passed through untouched, after ours, so that they win.
    pub extra: Vec<String>,
}

impl EalOptions {
    /// The argument list for `rte_eal_init`.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "weir".to_owned(),
            format!("-l{}", self.main_core),
            format!("-m{}", self.memory_mib),
            format!("--file-prefix={}", self.file_prefix),
            "--no-telemetry".to_owned(),
            "--log-level=warning".to_owned(),
        ];
        // In-memory mode leaves nothing behind after a crash; 22.11 refuses it with --no-huge.
        arguments.push(if self.hugepages { "--in-memory" } else { "--no-huge" }.to_owned());
        if self.pci_devices.is_empty() {
            arguments.push("--no-pci".to_owned());
        }
        for device in &self.pci_devices {
            arguments.push(format!("-a{device}"));
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// The started environment. Devices, pools and memory are made with it at hand; it must be dropped
/// after them.
#[derive(Debug)]
pub struct Eal {
    _private: (),
}

impl Eal {
    /// Starts the environment; the calling thread is bound to the main core, as are the threads that
    /// DPDK starts.
    ///
    /// # Errors
    /// When it was started before, or DPDK refuses (no hugepages, no permission, bad argument).
    pub fn start(options: &EalOptions) -> Result<Self, DpdkError> {
        let arguments = options
            .arguments()
            .into_iter()
            .map(|argument| {
                CString::new(argument.clone()).map_err(|_| DpdkError::NulByte(argument))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::EalTwice);
        }
        // DPDK gives threads of its own (interrupts, other processes' questions) all cores that the
        // caller may use but the main one: the workers' cores, were the caller not bound before.
        // Where that fails DPDK is left to say why.
        core_affinity::set_for_current(core_affinity::CoreId { id: options.main_core as usize });
        // EAL keeps pointers into its arguments for the life of the process.
        let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
        let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);
        pointers.push(std::ptr::null_mut());
        let pointers = Box::leak(pointers.into_boxed_slice());
        // SAFETY: `pointers` is a NUL-terminated argv of `count` C strings that are never freed,
        // and STARTED makes this the only call in the process.
        let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        if result < 0 {
            return Err(DpdkError::Eal { errno: Errno::from_return(-1) });
        }
        Ok(Self { _private: () })
    }

    /// The version of the library at run time, such as `DPDK 22.11.4`.
    pub fn version(&self) -> String {
        // SAFETY: returns a pointer to a static NUL-terminated string.
        unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: called once. Whoever starts the environment keeps it until devices, queues and
        // pools are gone: `run` declares it before them and joins the workers on every way out.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// Makes the calling thread known to DPDK, for the per-thread caches of its pools, until it is
/// dropped on the same thread.
#[derive(Debug)]
pub struct WorkerRegistration {
    _not_send: PhantomData<*const ()>,
}

impl WorkerRegistration {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// When all of DPDK's thread slots are in use.
    pub fn new() -> Result<Self, DpdkError> {
        // SAFETY: takes no argument; refuses when the environment is not running.
        if unsafe { dpdk_sys::rte_thread_register() } < 0 {
            return Err(DpdkError::NoWorkerSlot(Errno::from_return(-1)));
        }
        Ok(Self { _not_send: PhantomData })
    }
}

impl Drop for WorkerRegistration {
    fn drop(&mut self) {
        // SAFETY: this value is not Send, so this is the thread that was registered.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(hugepages: bool) -> EalOptions {
        EalOptions {
            memory_mib: 256,
            hugepages,
            main_core: 0,
            file_prefix: "weir-a".to_owned(),
            pci_devices: vec![],
            extra: vec!["--log-level=debug".to_owned()],
        }
    }

    #[test]
    fn ordinary_pages_are_never_combined_with_in_memory_mode() {
        let arguments = options(false).arguments();
        assert!(arguments.contains(&"--no-huge".to_owned()));
        assert!(!arguments.contains(&"--in-memory".to_owned()));
        assert!(options(true).arguments().contains(&"--in-memory".to_owned()));
    }

    #[test]
    fn without_pci_ports_no_pci_device_is_taken() {
        assert!(options(true).arguments().contains(&"--no-pci".to_owned()));
        let with = EalOptions { pci_devices: vec!["0000:3b:00.0".into()], ..options(true) };
        assert!(!with.arguments().contains(&"--no-pci".to_owned()));
        assert!(with.arguments().contains(&"-a0000:3b:00.0".to_owned()));
    }

    #[test]
    fn the_operators_own_arguments_come_last() {
        assert_eq!(options(true).arguments().last().map(String::as_str), Some("--log-level=debug"));
    }
}

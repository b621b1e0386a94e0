//! Memory for a worker's tables from DPDK: hugepages where there are any, on a given NUMA node, and
//! where it came to lie.

use std::ffi::CString;
use std::ptr::NonNull;

use super::Eal;
use super::error::DpdkError;

/// A zeroed region that lives as long as this value.
#[derive(Debug)]
pub struct HugeMemory {
    start: NonNull<u8>,
    bytes: usize,
}

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlace {
    /// Bytes of its pages.
    pub page_bytes: u64,
    /// Its NUMA node; -1: unknown.
    pub numa_node: i32,
}

// SAFETY: plain memory without a tie to the thread that allocated it; rte_free is thread-safe.
unsafe impl Send for HugeMemory {}

impl HugeMemory {
    /// `bytes` zeroed bytes, aligned to `align` (a power of two), on NUMA node `socket` where
    /// there is room (-1: any).
    ///
    /// # Errors
    /// When DPDK's memory has no such piece; `what` names it in the error.
    pub fn zeroed(
        _eal: &Eal,
        what: &'static str,
        bytes: usize,
        align: u32,
        socket: i32,
    ) -> Result<Self, DpdkError> {
        let name = CString::new(what).map_err(|_| DpdkError::NulByte(what.to_owned()))?;
        // SAFETY: the name is a C string, the rest numbers that DPDK checks.
        let allocate = |socket| unsafe {
            dpdk_sys::rte_zmalloc_socket(name.as_ptr(), bytes, align, socket).cast()
        };
        // Another node's memory is slower, and still better than none.
        let start = NonNull::new(allocate(socket))
            .or_else(|| NonNull::new(allocate(dpdk_sys::WEIR_SOCKET_ID_ANY)));
        match start {
            Some(start) => Ok(Self { start, bytes }),
            None => Err(DpdkError::NoMemory { what, mib: (bytes as u64).div_ceil(1 << 20) }),
        }
    }

    /// Where the region lies; `None` where DPDK does not know.
    pub fn place(&self) -> Option<MemoryPlace> {
        let start = self.start.as_ptr().cast();
        // SAFETY: an address of DPDK's memory, and no list to look in but the one of all its memory.
        let segment = unsafe { dpdk_sys::rte_mem_virt2memseg(start, std::ptr::null()) };
        // SAFETY: null, or one of the descriptions of pages that stay as long as the memory does;
        // nobody writes them meanwhile.
        let segment = unsafe { segment.as_ref() }?;
        let (page_bytes, node) = (segment.hugepage_sz, segment.socket_id);
        Some(MemoryPlace { page_bytes, numa_node: node })
    }

    /// Hands the region over for the rest of the process.
    pub fn leak(self) -> &'static mut [u8] {
        let memory = std::mem::ManuallyDrop::new(self);
        // SAFETY: `bytes` zeroed bytes from rte_zmalloc_socket, ours alone, and never freed now
        // that Drop does not run (EAL's cleanup at the end of the process unmaps nothing that a
        // joined worker still uses).
        unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr(), memory.bytes) }
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by rte_zmalloc_socket and freed once.
        unsafe { dpdk_sys::rte_free(self.start.as_ptr().cast()) };
    }
}

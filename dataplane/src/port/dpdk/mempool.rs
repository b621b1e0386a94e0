//! A pool of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Eal;
use super::error::{DpdkError, Errno};
use super::mbuf::Mbuf;
use crate::port::BURST;

/// Buffers each thread keeps at hand: a few bursts, so that the shared ring is rarely touched.
const CACHE: u32 = 4 * BURST as u32;

/// A pool of buffers of one size. Cheap to share: clones are handles to the same pool.
#[derive(Clone, Debug)]
pub struct Mempool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: NonNull<dpdk_sys::rte_mempool>,
}

// SAFETY: DPDK's pools are made for use by many threads at once (multi-producer,
// multi-consumer ring behind per-thread caches).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// A pool of `count` buffers, each with room for a frame of `frame_bytes` and DPDK's
    /// headroom, on NUMA node `socket` where there is room (-1: any).
    ///
    /// # Errors
    /// When DPDK's memory has no room for it.
    pub fn new(
        _eal: &Eal,
        name: &str,
        count: u32,
        frame_bytes: u32,
        socket: i32,
    ) -> Result<Self, DpdkError> {
        let room = frame_bytes.max(2048) + u32::from(dpdk_sys::WEIR_MBUF_HEADROOM);
        let no_buffers = |errno| DpdkError::NoBuffers {
            count,
            size: room,
            mib: (u64::from(count) * u64::from(room + 256)).div_ceil(1 << 20),
            errno,
        };
        let c_name = CString::new(name).map_err(|_| DpdkError::NulByte(name.to_owned()))?;
        let room_u16 =
            u16::try_from(room).map_err(|_| no_buffers(Errno::from_return(-libc::EINVAL)))?;
        // DPDK refuses a cache above 2/3 of the pool.
        let cache = CACHE.min(count / 2);
        // SAFETY: the name is a C string that DPDK copies; the other arguments are numbers that
        // DPDK checks.
        let create = |socket| unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room_u16, socket)
        };
        let pool = NonNull::new(create(socket))
            .or_else(|| NonNull::new(create(dpdk_sys::WEIR_SOCKET_ID_ANY)));
        match pool {
            Some(pool) => Ok(Self { inner: Arc::new(Inner { pool }) }),
            None => Err(no_buffers(Errno::from_return(-1))),
        }
    }

    /// A fresh, empty buffer; `None` when all are in use.
    #[inline]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive as long as `self`; allocation from it is thread-safe.
        let mbuf = unsafe { dpdk_sys::rte_pktmbuf_alloc(self.inner.pool.as_ptr()) };
        // SAFETY: a pointer from rte_pktmbuf_alloc is ours alone until freed.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Buffers not in use by anyone (those in thread caches count as free).
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive as long as `self`; reads counters.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.inner.pool.as_ptr()) }
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the last handle is gone. Devices hold one until they are closed, so no queue
        // still refers to the pool; and a worker drops its packets before its queues (see
        // worker.rs), so none is still out.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}

//! A port whose buffers come from a pool and go back to it, as mbufs do: once filled it never
//! allocates, so that what the path allocates can be counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use dataplane::buffer::Buffer;
use dataplane::port::{Burst, Port};

/// Bytes of a buffer, headroom included.
const SIZE: usize = 2048;
const HEADROOM: usize = 128;

type Storage = Box<[u8; SIZE]>;

/// Free buffers, shared by all ports of a test.
#[derive(Clone)]
pub(crate) struct BufferPool(Rc<RefCell<Vec<Storage>>>);

impl BufferPool {
    pub(crate) fn new(buffers: usize) -> Self {
        Self(Rc::new(RefCell::new((0..buffers).map(|_| Box::new([0; SIZE])).collect())))
    }

    /// Buffers that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.0.borrow().len()
    }

    fn take(&self) -> Option<PooledBuffer> {
        let storage = self.0.borrow_mut().pop()?;
        Some(PooledBuffer {
            storage: Some(storage),
            start: HEADROOM,
            end: HEADROOM,
            pool: self.clone(),
        })
    }
}

/// A packet in a pooled buffer.
pub(crate) struct PooledBuffer {
    /// Taken out by `drop` only.
    storage: Option<Storage>,
    start: usize,
    end: usize,
    pool: BufferPool,
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(storage) = self.storage.take() {
            // Within the capacity: it came from there.
            self.pool.0.borrow_mut().push(storage);
        }
    }
}

impl Buffer for PooledBuffer {
    fn data(&self) -> &[u8] {
        self.storage.as_ref().map_or(&[], |storage| &storage[self.start..self.end])
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.storage.as_mut().map_or(&mut [], |storage| &mut storage[self.start..self.end])
    }

    fn replace_front(&mut self, before: usize, after: usize) -> bool {
        if self.end - self.start < before || self.start + before < after {
            return false;
        }
        self.start = self.start + before - after;
        true
    }

    fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(storage) = &mut self.storage else { return false };
        let Some(place) = storage.get_mut(self.end..self.end + bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }
}

/// A port on that pool. What is sent is counted and freed.
pub(crate) struct PooledPort {
    pool: BufferPool,
    incoming: VecDeque<PooledBuffer>,
    pub(crate) sent: usize,
    /// The most packets one call transmits.
    pub(crate) transmit_limit: usize,
    /// Whether `allocate` finds the pool dry.
    pub(crate) dry: bool,
}

impl PooledPort {
    pub(crate) fn new(pool: &BufferPool) -> Self {
        Self {
            pool: pool.clone(),
            incoming: VecDeque::with_capacity(SIZE),
            sent: 0,
            transmit_limit: usize::MAX,
            dry: false,
        }
    }

    /// Puts a frame on the wire.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        let mut buffer = self.pool.take().expect("the pool is large enough");
        assert!(buffer.append(frame));
        self.incoming.push_back(buffer);
    }

    /// Frames not yet received.
    pub(crate) fn waiting(&self) -> usize {
        self.incoming.len()
    }
}

impl Port for PooledPort {
    type Buffer = PooledBuffer;

    fn receive(&mut self, burst: &mut Burst<PooledBuffer>) {
        while !burst.is_full() {
            let Some(buffer) = self.incoming.pop_front() else { return };
            burst.push(buffer);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<PooledBuffer>) {
        let count = burst.len().min(self.transmit_limit);
        self.sent += count;
        burst.drain(..count);
    }

    fn allocate(&mut self) -> Option<PooledBuffer> {
        if self.dry { None } else { self.pool.take() }
    }
}

//! What the admin interface asks of devices, so that it can be tested without any.

use dataplane::port::dpdk::{DeviceStatistics, Mempool, StartedDevice};

/// A port's device, as far as it is shown.
pub trait PortSource: Send + Sync {
    /// The device has carrier.
    fn link_up(&self) -> bool;

    /// The device's own counters, since its start.
    fn statistics(&self) -> DeviceStatistics;
}

impl PortSource for StartedDevice {
    fn link_up(&self) -> bool {
        self.link_up()
    }

    fn statistics(&self) -> DeviceStatistics {
        self.statistics()
    }
}

/// A worker's pool of packet buffers, as far as it is shown.
pub trait BufferSource: Send + Sync {
    /// Buffers not in use by anyone.
    fn available(&self) -> u32;
}

impl BufferSource for Mempool {
    fn available(&self) -> u32 {
        self.available()
    }
}

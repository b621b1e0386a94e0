//! The clock workers read once a burst: the CPU's time stamp counter, scaled to nanoseconds.

/// A monotonic clock; cheap to read, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: quanta::Clock,
    start: quanta::Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that starts at 0 now. Finds out the counter's rate the first time, which takes
    /// some milliseconds.
    pub fn new() -> Self {
        let inner = quanta::Clock::new();
        let start = inner.now();
        Self { inner, start }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub fn now(&self) -> u64 {
        self.inner.now().saturating_duration_since(self.start).as_nanos() as u64
    }

    /// The counter itself, in its own unit: the cheapest reading there is, for
    /// [`Clock::nanoseconds`].
    #[inline(always)]
    pub fn ticks(&self) -> u64 {
        self.inner.raw()
    }

    /// What so many ticks of the counter are in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.inner.delta_as_nanos(0, ticks)
    }
}

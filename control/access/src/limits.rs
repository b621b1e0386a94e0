//! How much a caller may: calls a second for each identity, and streams at a time in all.
//!
//! A token bucket holds up to `burst` calls and fills at `per_second`; an empty one is an answer
//! at once, never a wait. Time is passed in. There are as many buckets as identities in the
//! access list, plus those of entries that a reload removed: bounded by configuration, never by
//! what strangers send.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio_stream::Stream;
use tonic::Status;

use crate::identity::Identity;

/// A token bucket for each identity.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    calls: f64,
    filled: Instant,
}

impl RateLimiter {
    /// Lets each identity make `per_second` calls, and `burst` at once after a pause; both at
    /// least 1.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (per_second.max(1), burst.max(1));
        Self { per_second: per_second.into(), burst: burst.into(), buckets: Mutex::default() }
    }

    /// Counts one call at `now`.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, with the rate, if the bucket is empty.
    pub fn take(&self, identity: &Identity, now: Instant) -> Result<(), Status> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(identity.name()) {
            let bucket = Bucket { calls: self.burst, filled: now };
            buckets.insert(identity.name().to_owned(), bucket);
        }
        let Some(bucket) = buckets.get_mut(identity.name()) else {
            return Ok(());
        };
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.calls = (bucket.calls + passed * self.per_second).min(self.burst);
        bucket.filled = bucket.filled.max(now);
        if bucket.calls < 1.0 {
            return Err(Status::resource_exhausted(format!(
                "{} makes more than {} calls a second: back off",
                identity.name(),
                self.per_second
            )));
        }
        bucket.calls -= 1.0;
        Ok(())
    }
}

/// A bounded number of open streams.
#[derive(Clone, Debug)]
pub struct Streams {
    open: Arc<AtomicUsize>,
    most: usize,
}

/// The place of one stream, given back when it is dropped.
#[derive(Debug)]
pub struct StreamPlace(Arc<AtomicUsize>);

/// A stream that holds its place until it is dropped.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    _place: StreamPlace,
}

impl Streams {
    /// Places for `most` streams at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, with the bound, if all are taken.
    pub fn enter(&self) -> Result<StreamPlace, Status> {
        let entered = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < self.most).then_some(open + 1)
        });
        match entered {
            Ok(_) => Ok(StreamPlace(Arc::clone(&self.open))),
            Err(_) => Err(Status::resource_exhausted(format!(
                "{} streams are open, the most there may be: back off",
                self.most
            ))),
        }
    }

    /// Streams open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

impl StreamPlace {
    /// Ties the place to the life of `stream`.
    pub fn hold<S>(self, stream: S) -> Guarded<S> {
        Guarded { stream, _place: self }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<S: Stream + Unpin> Stream for Guarded<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.stream).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use proptest::prelude::*;
    use std::time::Duration;
    use tonic::Code;

    fn caller(name: &str) -> Identity {
        Identity::new(name, Role::Operator)
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let limiter = RateLimiter::new(10, 20);
        let start = Instant::now();
        let passed = |now| (0..100).filter(|_| limiter.take(&caller("a"), now).is_ok()).count();
        assert_eq!(passed(start), 20);
        assert_eq!(passed(start + Duration::from_millis(500)), 5);
        assert_eq!(passed(start + Duration::from_secs(3600)), 20);
        // A clock that is read late by another thread gives nothing back.
        assert_eq!(passed(start), 0);
    }

    #[test]
    fn one_callers_haste_is_not_anothers() {
        let limiter = RateLimiter::new(1, 1);
        let now = Instant::now();
        limiter.take(&caller("a"), now).unwrap();
        let refused = limiter.take(&caller("a"), now).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "a makes more than 1 calls a second: back off");
        limiter.take(&caller("b"), now).unwrap();
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_in_any_time(
            per_second in 1_u32..100,
            burst in 1_u32..100,
            steps in proptest::collection::vec(0_u64..200, 1..200),
        ) {
            let limiter = RateLimiter::new(per_second, burst);
            let start = Instant::now();
            let (mut now, mut passed) = (0, 0.0);
            for step in steps {
                now += step;
                let at = start + Duration::from_millis(now);
                passed += f64::from(u8::from(limiter.take(&caller("a"), at).is_ok()));
                let seconds = now as f64 / 1000.0;
                prop_assert!(passed <= f64::from(burst) + seconds * f64::from(per_second) + 1e-6);
            }
        }
    }

    #[tokio::test]
    async fn streams_have_places_that_come_back() {
        let streams = Streams::new(2);
        let first = streams.enter().unwrap();
        let second = streams.clone().enter().unwrap().hold(tokio_stream::iter([1, 2]));
        assert_eq!(streams.open(), 2);
        let refused = streams.enter().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("2 streams are open"), "{refused}");
        let all: Vec<i32> = tokio_stream::StreamExt::collect(second).await;
        assert_eq!((all, streams.open()), (vec![1, 2], 1));
        drop(first);
        assert_eq!(streams.open(), 0);
    }
}

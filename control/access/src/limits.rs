//! How much a caller may: calls a second for each identity, and streams at a time.
//!
//! A token bucket holds up to `burst` calls and fills at `per_second`; an empty one is an answer
//! at once, never a wait. Time is passed in. There are as many buckets as identities in the
//! access list, plus those of entries that a reload removed: bounded by configuration, never by
//! what strangers send.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
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

/// Who a stream is for. Each of the three has places that the others cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Operators and viewers, whatever they watch.
    People,
    /// Checkers.
    Checkers,
    /// Nodes.
    Nodes,
}

/// A bounded number of open streams, so that nobody can lock another out.
///
/// A quarter of the places is each share's own. People have no more than that; the last quarter is
/// for nodes and checkers, whichever come. One identity holds at most a sixteenth, but may hold 8.
#[derive(Clone, Debug)]
pub struct Streams {
    open: Arc<Mutex<Open>>,
    most: usize,
}

/// How many are open.
#[derive(Debug, Default)]
struct Open {
    shares: [usize; 3],
    /// Never 0; callers without an entry are in none.
    identities: HashMap<String, usize>,
}

/// The place of one stream, given back when it is dropped.
#[derive(Debug)]
pub struct StreamPlace {
    open: Arc<Mutex<Open>>,
    share: Share,
    identity: Option<String>,
}

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

    /// Takes a place of `share` for `identity`. Where access is open everybody is one identity,
    /// which has no bound of its own.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, with the bound that is reached.
    pub fn enter(&self, share: Share, identity: &Identity) -> Result<StreamPlace, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (!identity.is_open()).then(|| identity.name().to_owned());
        if let Some(name) = &name {
            let most = (self.most / 16).max(8);
            if open.identities.get(name).is_some_and(|held| *held >= most) {
                return Err(full(&format!("{name} has {most} streams")));
            }
        }
        let own = self.most / 4;
        let held = open.shares[share as usize];
        if share == Share::People && held >= own.max(1) {
            return Err(full(&format!("{held} streams of operators and viewers are open")));
        }
        // What nobody else may take counts as taken.
        let taken = |(index, held): (usize, &usize)| match index == share as usize {
            true => *held + 1,
            false => (*held).max(own),
        };
        if open.shares.iter().enumerate().map(taken).sum::<usize>() > self.most {
            let open: usize = open.shares.iter().sum();
            let (most, reserved) = (self.most, own);
            return Err(full(&format!(
                "{open} streams are open of {most}, of which {reserved} each are kept for \
                 operators, for checkers and for nodes"
            )));
        }
        open.shares[share as usize] += 1;
        if let Some(name) = &name {
            *open.identities.entry(name.clone()).or_default() += 1;
        }
        Ok(StreamPlace { open: Arc::clone(&self.open), share, identity: name })
    }

    /// Streams open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).shares.iter().sum()
    }
}

fn full(what: &str) -> Status {
    Status::resource_exhausted(format!("{what}, the most there may be: back off"))
}

impl StreamPlace {
    /// Ties the place to the life of `stream`.
    pub fn hold<S>(self, stream: S) -> Guarded<S> {
        Guarded { stream, _place: self }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.shares[self.share as usize] -= 1;
        if let Some(name) = self.identity.take()
            && let Entry::Occupied(mut held) = open.identities.entry(name)
        {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
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
        let (streams, anybody) = (Streams::new(2), Identity::anybody());
        let first = streams.enter(Share::Nodes, &anybody).unwrap();
        let second = streams.clone().enter(Share::Checkers, &anybody).unwrap();
        let second = second.hold(tokio_stream::iter([1, 2]));
        assert_eq!(streams.open(), 2);
        let refused = streams.enter(Share::Nodes, &anybody).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("2 streams are open of 2"), "{refused}");
        let all: Vec<i32> = tokio_stream::StreamExt::collect(second).await;
        assert_eq!((all, streams.open()), (vec![1, 2], 1));
        drop(first);
        assert_eq!(streams.open(), 0);
    }

    #[test]
    fn no_share_can_take_the_places_of_another() {
        let fill = |streams: &Streams, share| -> Vec<StreamPlace> {
            std::iter::from_fn(|| streams.enter(share, &Identity::anybody()).ok()).collect()
        };
        use Share::{Checkers, Nodes, People};
        for (order, held) in [
            ([People, Nodes, Checkers], [128, 256, 128]),
            ([Nodes, Checkers, People], [256, 128, 128]),
            ([Checkers, People, Nodes], [256, 128, 128]),
        ] {
            let streams = Streams::new(512);
            let places = order.map(|share| fill(&streams, share));
            assert_eq!(places.each_ref().map(Vec::len), held, "{order:?}");
        }
    }

    #[test]
    fn one_identity_has_a_sixteenth_and_gets_it_back() {
        let streams = Streams::new(512);
        let mut places: Vec<_> =
            (0..32).map(|_| streams.enter(Share::Nodes, &caller("lb-a1")).unwrap()).collect();
        let refused = streams.enter(Share::Nodes, &caller("lb-a1")).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("lb-a1 has 32 streams"), "{refused}");
        streams.enter(Share::Nodes, &caller("lb-a2")).unwrap();
        places.pop();
        places.push(streams.enter(Share::Nodes, &caller("lb-a1")).unwrap());
        drop(places);
        assert!(streams.open.lock().unwrap().identities.is_empty());
    }
}

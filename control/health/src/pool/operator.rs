//! One pool: what operators do with its backends.
//!
//! Their acts take effect at once, are refused at once with a reason, and are idempotent where
//! they can be: what has happened already is `Ok(None)`.

use crate::drain::Drain;
use crate::lifecycle::{Cause, Refusal, State, step};
use crate::pool::{PoolHealth, Row};
use crate::{Event, Id, Millis, Transition};

impl PoolHealth {
    /// The state that `cause` would lead to; nothing changes.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn would(&self, backend: &str, cause: Cause) -> Result<State, Refusal> {
        step(self.backends.get(backend).map(|b| b.state), cause)
    }

    /// An operator registers a backend: PENDING, until a quorum of checkers admits it. `None`
    /// when it is registered with this weight already.
    ///
    /// # Errors
    /// [`Refusal::AlreadyRegistered`] when it is registered with another weight.
    pub fn register(
        &mut self,
        backend: &str,
        weight: u32,
        now: Millis,
    ) -> Result<Option<Transition>, Refusal> {
        self.advance(now);
        match self.backends.get(backend) {
            // A new life: the old one's votes, falls and flows are not its own.
            Some(old) if old.state == State::Evicted => {}
            Some(old) if old.weight == weight => return Ok(None),
            Some(_) => return Err(Refusal::AlreadyRegistered),
            None => {}
        }
        let from = self.backends.get(backend).map(|b| b.state);
        let to = step(from, Cause::Register)?;
        let row = Row { weight, state: to, ready: false, drain_left_ms: 0 };
        self.restore(backend, row, now);
        let id = Id::from(backend);
        let at = self.now;
        let transition =
            Transition { backend: id, from, to, ready: false, cause: Cause::Register, at };
        self.events.push(Event::Changed(transition.clone()));
        Ok(Some(transition))
    }

    /// An operator changes the weight. 0 takes the backend out of the table and out of the panic
    /// threshold's count. True when it was another.
    ///
    /// # Errors
    /// [`Refusal::NotRegistered`].
    pub fn set_weight(&mut self, backend: &str, weight: u32) -> Result<bool, Refusal> {
        let have = self.backends.get_mut(backend).ok_or(Refusal::NotRegistered)?;
        Ok(std::mem::replace(&mut have.weight, weight) != weight)
    }

    /// An operator drains a backend: no new flows from the next snapshot on; EVICTED after
    /// `window_ms` (the pool's, if `None`), or when no node has a flow left. `None` when it is
    /// draining already: the first window stands.
    ///
    /// # Errors
    /// [`Refusal::NotRegistered`], [`Refusal::IsEvicted`].
    pub fn drain(
        &mut self,
        backend: &str,
        window_ms: Option<Millis>,
        now: Millis,
    ) -> Result<Option<Transition>, Refusal> {
        self.advance(now);
        let window = window_ms.unwrap_or(self.settings.drain.window_ms);
        let drain = Drain::new(self.now, window);
        self.act(backend, Cause::Drain, Some(drain))
    }

    /// An operator takes a drain back: PENDING, and HEALTHY with the next tick if a quorum of
    /// checkers finds it live and ready.
    ///
    /// # Errors
    /// [`Refusal::NotRegistered`], [`Refusal::NotDraining`], [`Refusal::IsEvicted`].
    pub fn undrain(&mut self, backend: &str, now: Millis) -> Result<Option<Transition>, Refusal> {
        self.advance(now);
        self.act(backend, Cause::Undrain, None)
    }

    /// An operator takes a backend out at once; its flows are reset. `None` when it is EVICTED
    /// already.
    ///
    /// # Errors
    /// [`Refusal::NotRegistered`].
    pub fn deregister(
        &mut self,
        backend: &str,
        now: Millis,
    ) -> Result<Option<Transition>, Refusal> {
        self.advance(now);
        self.act(backend, Cause::Deregister, None)
    }

    /// Drops an EVICTED backend, once nodes need its tombstone no more.
    ///
    /// # Errors
    /// [`Refusal::NotRegistered`], [`Refusal::NotEvicted`].
    pub fn forget(&mut self, backend: &str) -> Result<(), Refusal> {
        match self.backends.get(backend).map(|b| b.state) {
            None => Err(Refusal::NotRegistered),
            Some(State::Evicted) => {
                self.backends.remove(backend);
                self.tunnels.forget(backend);
                self.changed = true;
                Ok(())
            }
            Some(_) => Err(Refusal::NotEvicted),
        }
    }

    /// Makes an operator's transition. `None` when it changes nothing.
    fn act(
        &mut self,
        backend: &str,
        cause: Cause,
        drain: Option<Drain>,
    ) -> Result<Option<Transition>, Refusal> {
        let to = self.would(backend, cause)?;
        let at = self.now;
        let Some((id, have)) = self.backends.get_key_value(backend) else {
            return Err(Refusal::NotRegistered);
        };
        if have.state == to {
            return Ok(None);
        }
        let id = id.clone();
        self.outliers.forget(backend);
        let transition = self.backends.get_mut(backend).map(|have| {
            have.drain = drain;
            have.change(&id, to, cause, at)
        });
        self.events.extend(transition.clone().map(Event::Changed));
        Ok(transition)
    }
}

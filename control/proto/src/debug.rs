//! `Debug` of messages that hold secrets: what is printed of them may end in a log.
//!
//! prost's own is left out for them in `build.rs`. Messages that contain one of them print it
//! through this one. The fields are taken apart by name, so that a new one cannot be forgotten.

use std::fmt;

use crate::v1::{Forwarding, PoolSettings, QuicConfiguration, Scheduler};

impl fmt::Debug for PoolSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheduler,
            table_size,
            forwarding,
            hash_secret,
            drain_seconds,
            reselect,
            probe,
            quorum_checkers,
            quorum_down,
            panic_percent,
            slow_start_seconds,
            gue_variant_0,
            second_chance,
            quic,
        } = self;
        f.debug_struct("PoolSettings")
            .field("scheduler", &Name(*scheduler, Scheduler::try_from(*scheduler).ok()))
            .field("table_size", table_size)
            .field("forwarding", &Name(*forwarding, Forwarding::try_from(*forwarding).ok()))
            .field("hash_secret", &format_args!("{} bytes", hash_secret.len()))
            .field("drain_seconds", drain_seconds)
            .field("reselect", reselect)
            .field("probe", probe)
            .field("quorum_checkers", quorum_checkers)
            .field("quorum_down", quorum_down)
            .field("panic_percent", panic_percent)
            .field("slow_start_seconds", slow_start_seconds)
            .field("gue_variant_0", gue_variant_0)
            .field("second_chance", second_chance)
            .field("quic", quic)
            .finish()
    }
}

impl fmt::Debug for QuicConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config_id, server_id_length, nonce_length, key, self_encoded_length, encrypted } =
            self;
        f.debug_struct("QuicConfiguration")
            .field("config_id", config_id)
            .field("server_id_length", server_id_length)
            .field("nonce_length", nonce_length)
            .field("key", &format_args!("{} bytes", key.len()))
            .field("self_encoded_length", self_encoded_length)
            .field("encrypted", encrypted)
            .finish()
    }
}

impl PoolSettings {
    /// Takes the secrets out, for callers who are not shown them.
    pub fn clear_secrets(&mut self) {
        self.hash_secret.clear();
        for configuration in &mut self.quic {
            configuration.key.clear();
        }
    }
}

/// A value of an enum by its name, or by its number when this release does not know it.
struct Name<T>(i32, Option<T>);

impl<T: fmt::Debug> fmt::Debug for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Some(name) => name.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{CreatePoolReq, PlanReq, Pool, PoolSnapshot, UpdatePoolReq};

    #[test]
    fn no_message_shows_a_hash_secret_when_it_is_printed() {
        let secret: Vec<u8> = (201..217).collect();
        let settings = PoolSettings {
            scheduler: Scheduler::Ring.into(),
            forwarding: 99,
            hash_secret: secret.clone(),
            drain_seconds: 7,
            quic: vec![QuicConfiguration { key: secret.clone(), ..Default::default() }],
            ..PoolSettings::default()
        };
        let some = || Some(settings.clone());
        let create = CreatePoolReq { settings: some(), ..Default::default() };
        let update = UpdatePoolReq { settings: some(), ..Default::default() };
        let pool = Pool { settings: some(), ..Default::default() };
        let plan =
            PlanReq { change: Some(crate::v1::plan_req::Change::UpdatePool(update.clone())) };
        let snapshot = PoolSnapshot { settings: some(), ..Default::default() };
        let printed: [&dyn fmt::Debug; 6] = [&settings, &snapshot, &create, &update, &pool, &plan];
        for message in printed {
            for text in [format!("{message:?}"), format!("{message:#?}")] {
                assert!(text.contains("16 bytes"), "{text}");
                let shown = secret.iter().find(|byte| text.contains(&byte.to_string()));
                assert_eq!(shown, None, "{text}");
            }
        }
        let mut cleared = settings.clone();
        cleared.clear_secrets();
        assert!(cleared.hash_secret.is_empty() && cleared.quic[0].key.is_empty());
        let text = format!("{settings:?}");
        for field in ["scheduler: Ring", "forwarding: 99", "drain_seconds: 7"] {
            assert!(text.contains(field), "{text}");
        }
    }
}

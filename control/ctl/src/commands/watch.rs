//! `watch`: events as they happen, or the snapshots of a pool; goes on across controllers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use clap::Args;
use proto::v1::{Event, PoolSnapshot, WatchEventsReq, WatchPoolReq};

use super::Context;
use crate::failure::Failure;
use crate::secret::hex;
use crate::session::Follow;
use crate::words::{self, clean};

/// Events that a controller keeps for those who come late.
const MOST_REPLAYED: u32 = 256;

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Show this pool's snapshots, a line each, instead of events.
    #[arg(long)]
    pool: Option<String>,
    /// Begin with so many of the last events, at most 256.
    #[arg(
        long,
        value_name = "EVENTS",
        default_value_t = 0,
        conflicts_with = "pool",
        value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_REPLAYED))
    )]
    last: u32,
    /// End after so many lines.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) async fn run(
    arguments: &Arguments,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let mut left = arguments.count;
    let mut shown = move || match &mut left {
        Some(left) => {
            *left = left.saturating_sub(1);
            if *left == 0 { Follow::Enough } else { Follow::On }
        }
        None => Follow::On,
    };
    let json = context.json;
    match &arguments.pool {
        None => {
            // After a loss, what happened meanwhile is asked for, and what is known left out.
            let replay = Cell::new(arguments.last);
            let open = |mut client: client::Client| {
                let request = WatchEventsReq { replay: replay.replace(MOST_REPLAYED) };
                async move { client.watch_events(request).await }
            };
            let mut known = VecDeque::new();
            context
                .session
                .follow("WatchEvents", context.out, open, |out, event: Event| {
                    if known.contains(&event) {
                        return Ok(Follow::On);
                    }
                    known.push_back(event.clone());
                    if known.len() > MOST_REPLAYED as usize {
                        known.pop_front();
                    }
                    if json {
                        out.json(&event)?
                    } else {
                        out.line(event_line(&event))?
                    }
                    Ok(shown())
                })
                .await
        }
        Some(pool) => {
            // What has been shown already, so that another controller does not repeat it.
            let known = RefCell::new(WatchPoolReq { pool_id: pool.clone(), ..<_>::default() });
            let open = |mut client: client::Client| {
                let request = known.borrow().clone();
                async move { client.watch_pool(request).await }
            };
            context
                .session
                .follow("WatchPool", context.out, open, |out, mut snapshot: PoolSnapshot| {
                    if snapshot.initial_set_complete {
                        return Ok(Follow::On);
                    }
                    {
                        let mut known = known.borrow_mut();
                        known.store_id.clone_from(&snapshot.store_id);
                        known.versions.insert(snapshot.pool_id.clone(), snapshot.version);
                    }
                    if let Some(settings) = &mut snapshot.settings {
                        settings.clear_secrets();
                    }
                    if json {
                        out.json(&snapshot)?
                    } else {
                        out.line(snapshot_line(&snapshot))?
                    }
                    Ok(shown())
                })
                .await
        }
    }
}

fn event_line(event: &Event) -> String {
    let subject = match (event.pool_id.as_str(), event.backend_id.as_str()) {
        ("", "") => String::new(),
        (pool, "") => format!(" {pool}"),
        (pool, backend) => format!(" {pool}/{backend}"),
    };
    let line = format!("{} {}{subject}: {}", words::time(event.at_ns), event.kind, event.text);
    clean(&line).into_owned()
}

fn snapshot_line(snapshot: &PoolSnapshot) -> String {
    let (pool, version) = (clean(&snapshot.pool_id), snapshot.version);
    if snapshot.deleted {
        return format!("{pool} version {version}: deleted");
    }
    let backends = snapshot.backends.len();
    let eligible = snapshot.backends.iter().filter(|backend| backend.weight > 0).count();
    let table = snapshot.table.clone().unwrap_or_default();
    let digest = hex(table.digest.get(..8).unwrap_or(&table.digest));
    let (vips, slots) = (snapshot.vips.len(), table.size);
    format!(
        "{pool} version {version}: {eligible} of {backends} backends eligible, {vips} VIPs, \
         {slots} slots, digest {digest}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{BackendEntry, MaglevTable};

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            at_ns: 1_735_689_600_000_000_000,
            pool_id: "web".into(),
            backend_id: "b".into(),
            kind: "backend_state".into(),
            text: "UNHEALTHY\nconnection refused".into(),
        };
        assert_eq!(
            event_line(&event),
            "2025-01-01T00:00:00Z backend_state web/b: UNHEALTHY\\nconnection refused"
        );
    }

    #[test]
    fn a_snapshot_is_a_line() {
        let entry = |weight| BackendEntry { weight, ..BackendEntry::default() };
        let snapshot = PoolSnapshot {
            pool_id: "web".into(),
            version: 7,
            backends: vec![entry(100), entry(0)],
            table: Some(MaglevTable { size: 65_537, digest: vec![1; 32], ..<_>::default() }),
            ..PoolSnapshot::default()
        };
        assert_eq!(
            snapshot_line(&snapshot),
            "web version 7: 1 of 2 backends eligible, 0 VIPs, 65537 slots, digest 0101010101010101"
        );
        let deleted = PoolSnapshot { deleted: true, ..snapshot };
        assert_eq!(snapshot_line(&deleted), "web version 7: deleted");
    }
}

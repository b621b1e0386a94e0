//! Snapshots as a controller sends them.

use maglev::{Maglev, Member, Scheduler as _};
use proto::v1;

pub(crate) const SECRET: [u8; 16] = *b"0123456789abcdef";
pub(crate) const TABLE_SIZE: u32 = 1009;

/// A pool with these backends (id, weight), all healthy, and the VIP `203.0.113.1:80/tcp`.
pub(crate) fn snapshot(
    store: &str,
    pool: &str,
    version: u64,
    backends: &[(&str, u32)],
) -> v1::PoolSnapshot {
    let entry = |(number, (id, weight)): (usize, &(&str, u32))| v1::BackendEntry {
        backend_id: (*id).to_owned(),
        ip: format!("10.0.0.{}", number + 1),
        port: 80,
        weight: *weight,
        state: v1::BackendState::Healthy.into(),
        ..v1::BackendEntry::default()
    };
    let vip = v1::Vip {
        address: "203.0.113.1".to_owned(),
        first_port: 80,
        last_port: 80,
        protocol: v1::Protocol::Tcp.into(),
        ..v1::Vip::default()
    };
    let message = v1::PoolSnapshot {
        pool_id: pool.to_owned(),
        version,
        backends: backends.iter().enumerate().map(entry).collect(),
        settings: Some(v1::PoolSettings {
            table_size: TABLE_SIZE,
            hash_secret: SECRET.to_vec(),
            ..v1::PoolSettings::default()
        }),
        vips: vec![vip],
        store_id: store.to_owned(),
        ..v1::PoolSnapshot::default()
    };
    with_digest(message)
}

/// The message with the table that its backends make.
pub(crate) fn with_digest(mut message: v1::PoolSnapshot) -> v1::PoolSnapshot {
    let table = table(&message);
    message.table = Some(v1::MaglevTable {
        size: TABLE_SIZE,
        slots: Vec::new(),
        digest: table.digest().as_bytes().to_vec(),
    });
    message
}

/// The table with indices into the message's backends.
pub(crate) fn table(message: &v1::PoolSnapshot) -> Maglev {
    let members: Vec<Member<'_>> = (0u32..)
        .zip(&message.backends)
        .filter(|(_, backend)| backend.weight > 0)
        .map(|(index, backend)| Member { id: &backend.backend_id, index, weight: backend.weight })
        .collect();
    Maglev::build(&members, TABLE_SIZE, SECRET).expect("a table")
}

/// The mark of a deleted pool.
pub(crate) fn deleted(store: &str, pool: &str, version: u64) -> v1::PoolSnapshot {
    v1::PoolSnapshot {
        pool_id: pool.to_owned(),
        version,
        store_id: store.to_owned(),
        deleted: true,
        ..v1::PoolSnapshot::default()
    }
}

/// The end of the initial set.
pub(crate) fn complete(store: &str) -> v1::PoolSnapshot {
    v1::PoolSnapshot {
        store_id: store.to_owned(),
        initial_set_complete: true,
        ..v1::PoolSnapshot::default()
    }
}

//! `[[pool.quic]]`: how the pool's servers make their QUIC connection ids, and the ids that its
//! backends go by in them (draft-ietf-quic-load-balancers).

use crate::QuicServerId;
use crate::model::{Backend, QuicConfiguration};
use crate::reader::Reader;
use crate::report::{Report, Reported, quote};
use crate::schema::keys::{QUIC, pool, quic as keys};
use std::collections::HashMap;

/// Most octets of server id and nonce: a connection id has 20, and the first is taken.
const LONGEST: u8 = 19;

/// All configurations of a pool.
pub(crate) fn read(pool: &mut Reader<'_, '_>) -> Result<Vec<QuicConfiguration>, Reported> {
    let mut configurations = Vec::new();
    let mut lines: HashMap<u8, usize> = HashMap::new();
    let mut reported = None;
    for (index, at) in pool.tables(&pool::QUIC).into_iter().enumerate() {
        let label = format!("{}: quic #{}", pool.label(), index + 1);
        let mut reader = Reader::new(pool.report, &QUIC, label, at);
        let before = reader.report.problem_count();
        let read = read_one(&mut reader);
        if let Ok(configuration) = &read {
            let line = reader.line_of(&keys::CONFIG_ID);
            if let Some(first) = lines.get(&configuration.config_id) {
                let what = format!("is also that of the table at line {first}");
                reader.fault(&keys::CONFIG_ID, &what, "a number of its own for each");
            }
            lines.entry(configuration.config_id).or_insert(line);
        }
        match read {
            Ok(configuration) if reader.report.problem_count() == before => {
                configurations.push(configuration);
            }
            _ => reported = Some(Reported),
        }
    }
    reported.map_or(Ok(configurations), Err)
}

fn read_one(reader: &mut Reader<'_, '_>) -> Result<QuicConfiguration, Reported> {
    let config_id = reader.integer(&keys::CONFIG_ID);
    let server_id_length = reader.integer(&keys::SERVER_ID_LENGTH);
    let nonce_length = reader.integer(&keys::NONCE_LENGTH);
    let key = reader.optional_notation(&keys::KEY);
    let self_encoded_length = reader.boolean(&keys::SELF_ENCODED_LENGTH);
    let (server_id_length, nonce_length): (u8, u8) = (server_id_length?, nonce_length?);
    if server_id_length + nonce_length > LONGEST {
        let what = format!("does not fit beside a server id of {server_id_length} octets");
        let expected = format!("at most {}: both together {LONGEST}", LONGEST - server_id_length);
        return Err(reader.fault(&keys::NONCE_LENGTH, &what, &expected));
    }
    Ok(QuicConfiguration {
        config_id: config_id?,
        server_id_length,
        nonce_length,
        key: key?,
        self_encoded_length: self_encoded_length?,
    })
}

/// The backends' server ids against each other and against the configurations. `lines` are those
/// of the backends' server ids.
pub(crate) fn check_server_ids(
    report: &mut Report<'_>,
    label: &str,
    configurations: &[QuicConfiguration],
    backends: &[Backend],
    lines: &[usize],
) -> Result<(), Reported> {
    let mut reported = Ok(());
    let mut owners: HashMap<&QuicServerId, usize> = HashMap::new();
    let lengths: Vec<usize> =
        configurations.iter().map(|quic| usize::from(quic.server_id_length)).collect();
    for (backend, &line) in backends.iter().zip(lines) {
        let label = format!("{label}: backend {}: quic_server_ids", quote(&backend.id));
        for id in &backend.quic_server_ids {
            if let Some(first) = owners.get(id) {
                let message = format!(
                    "{label}: \"{id}\" is also the server id of line {first} (expected ids that \
                     one backend has)"
                );
                reported = Err(report.problem(line, message));
            }
            owners.entry(id).or_insert(line);
            if !lengths.contains(&id.octets().len()) {
                let octets = id.octets().len();
                let message = format!(
                    "{label}: \"{id}\" has {octets} octets (expected the server_id_length of a \
                     [[pool.quic]] of this pool)"
                );
                reported = Err(report.problem(line, message));
            }
        }
        let has =
            |length: &usize| backend.quic_server_ids.iter().any(|id| id.octets().len() == *length);
        if let Some(length) = lengths.iter().find(|length| !has(length)) {
            let message = format!(
                "{label}: none has the length {length}, so connection ids of that [[pool.quic]] never \
                 name this backend"
            );
            report.warning(line, message);
        }
    }
    reported
}

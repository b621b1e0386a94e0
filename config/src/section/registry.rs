//! `[registry]`: a file of this machine, or etcd.

use super::client::{TlsKeys, alone, read_endpoints, read_tls};
use super::path;
use crate::Endpoint;
use crate::model::{Etcd, EtcdUser, Registry, Store};
use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::Key;
use crate::schema::controller::registry as keys;
use std::path::Path;
use std::time::Duration;

/// The name of the embedded store in the state directory.
const FILE: &str = "registry.redb";

/// Keys that only etcd has.
static OF_ETCD: &[&Key] = &[
    &keys::ENDPOINTS,
    &keys::PREFIX,
    &keys::LEASE_SECONDS,
    &keys::COMPACT,
    &keys::CA,
    &keys::CERTIFICATE,
    &keys::KEY,
    &keys::SERVER_NAME,
    &keys::USER,
    &keys::PASSWORD_FILE,
];
/// Keys that only the embedded store has.
static OF_EMBEDDED: &[&Key] = &[&keys::PATH];

#[derive(Clone, Copy)]
enum StoreKind {
    Embedded,
    Etcd,
}

/// `state_dir` is absent when it is wrong; the embedded store is there by default.
pub(crate) fn read(
    mut reader: Reader<'_, '_>,
    state_dir: Option<&Path>,
) -> Result<Registry, Reported> {
    let kinds = [("embedded", StoreKind::Embedded), ("etcd", StoreKind::Etcd)];
    let kind = reader.choice(&keys::KIND, &kinds);
    let timeout = reader.integer(&keys::TIMEOUT_MS).map(|ms: u32| Duration::from_millis(ms.into()));
    let store = match kind? {
        StoreKind::Embedded => refuse(&mut reader, OF_ETCD, "etcd", "embedded")
            .and(read_embedded(&mut reader, state_dir)),
        StoreKind::Etcd => {
            refuse(&mut reader, OF_EMBEDDED, "embedded", "etcd").and(read_etcd(&mut reader))
        }
    };
    Ok(Registry { store: store?, timeout: timeout? })
}

/// Keys of another kind of store: whoever wrote them expects what would not happen.
fn refuse(
    reader: &mut Reader<'_, '_>,
    keys: &[&Key],
    of: &str,
    kind: &str,
) -> Result<(), Reported> {
    let mut reported = None;
    for key in keys {
        if reader.is_present(key) {
            let what = format!("is a key of kind \"{of}\", and kind is \"{kind}\"");
            reported = Some(reader.fault(key, &what, "the key to be left out"));
        }
    }
    reported.map_or(Ok(()), Err)
}

fn read_embedded(reader: &mut Reader<'_, '_>, state_dir: Option<&Path>) -> Result<Store, Reported> {
    match (path::optional(reader, &keys::PATH)?, state_dir) {
        (Some(path), _) => Ok(Store::Embedded { path }),
        (None, Some(state_dir)) => Ok(Store::Embedded { path: state_dir.join(FILE) }),
        (None, None) => Err(Reported),
    }
}

fn read_etcd(reader: &mut Reader<'_, '_>) -> Result<Store, Reported> {
    let endpoints = read_endpoints(reader, &keys::ENDPOINTS);
    let prefix = read_prefix(reader);
    let lease = reader.seconds(&keys::LEASE_SECONDS);
    let compact = reader.boolean(&keys::COMPACT);
    let tls = TlsKeys {
        ca: &keys::CA,
        certificate: &keys::CERTIFICATE,
        key: &keys::KEY,
        server_name: &keys::SERVER_NAME,
    };
    let tls = read_tls(reader, &tls, endpoints.as_deref().ok());
    let user = read_user(reader);
    let (endpoints, user) = (endpoints?, user?);
    warn_of_clear_password(reader, &endpoints, user.is_some());
    let (prefix, lease, compact) = (prefix?, lease?, compact?);
    Ok(Store::Etcd(Etcd { endpoints, prefix, lease, compact, tls: tls?, user }))
}

fn read_prefix(reader: &mut Reader<'_, '_>) -> Result<String, Reported> {
    let key = &keys::PREFIX;
    let prefix = reader.text(key)?;
    let expected = "up to 255 characters such as \"/weir/\"";
    if prefix.contains(char::is_control) || prefix.len() > 255 {
        return Err(reader.fault(key, "is too long or holds a control character", expected));
    }
    if !prefix.starts_with('/') || !prefix.ends_with('/') {
        return Err(reader.fault(key, "does not begin and end with a slash", expected));
    }
    Ok(prefix)
}

fn read_user(reader: &mut Reader<'_, '_>) -> Result<Option<EtcdUser>, Reported> {
    let password_file = path::optional(reader, &keys::PASSWORD_FILE);
    let present = reader.is_present(&keys::USER);
    let name = if present { reader.text(&keys::USER).map(Some) } else { Ok(None) };
    match (name?, password_file?) {
        (Some(name), Some(password_file)) => {
            if name.is_empty() || name.contains(char::is_control) {
                return Err(reader.fault(&keys::USER, "is no user of etcd", "a name"));
            }
            Ok(Some(EtcdUser { name, password_file }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone(reader, &keys::USER, &keys::PASSWORD_FILE)),
        (None, Some(_)) => Err(alone(reader, &keys::PASSWORD_FILE, &keys::USER)),
    }
}

fn warn_of_clear_password(reader: &mut Reader<'_, '_>, endpoints: &[Endpoint], has_user: bool) {
    let in_clear = endpoints.iter().find(|at| !at.is_https() && !at.is_loopback());
    if let (Some(endpoint), true) = (in_clear, has_user) {
        let message = format!("the password of user is sent to {endpoint} in the clear");
        reader.warning(&keys::PASSWORD_FILE, &message);
    }
}

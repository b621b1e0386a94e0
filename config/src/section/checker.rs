//! `[checker]` and `[[command]]`.

use super::path;
use crate::model::{Checker, Command};
use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::checker::{command, own as keys};
use std::net::SocketAddr;
use std::path::Path;

pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<Checker, Reported> {
    let id = reader.name(&keys::ID);
    let zone = reader.name(&keys::ZONE);
    let http = read_http(&mut reader);
    let workers = reader.integer(&keys::WORKERS);
    let max_in_flight = reader.integer(&keys::MAX_IN_FLIGHT);
    let max_commands = reader.integer(&keys::MAX_COMMANDS);
    let probe_ca = path::optional(&mut reader, &keys::PROBE_CA);
    Ok(Checker {
        id: id?,
        zone: zone?,
        http: http?,
        workers: workers?,
        max_in_flight: max_in_flight?,
        max_commands: max_commands?,
        probe_ca: probe_ca?,
    })
}

pub(crate) fn read_command(mut reader: Reader<'_, '_>) -> Result<Command, Reported> {
    let name = reader.name(&command::NAME);
    let argv = read_argv(&mut reader);
    Ok(Command { name: name?, argv: argv? })
}

/// A checker has neither TLS nor tokens of its own.
fn read_http(reader: &mut Reader<'_, '_>) -> Result<SocketAddr, Reported> {
    let key = &keys::HTTP;
    let http: SocketAddr = reader.notation(key)?;
    if http.ip().to_canonical().is_loopback() {
        return Ok(http);
    }
    let expected = format!("a loopback address, such as {}", key.default_cell().trim_matches('`'));
    Err(reader.fault(key, "is reachable from the network", &expected))
}

/// The program is named in full: the search path of a service is not the operator's.
fn read_argv(reader: &mut Reader<'_, '_>) -> Result<Vec<String>, Reported> {
    let key = &command::ARGV;
    let argv = reader.texts(key)?;
    if !(1..=64).contains(&argv.len()) {
        let what = format!("has {} elements", argv.len());
        return Err(reader.fault(key, &what, "a program and up to 63 arguments"));
    }
    let mut reported = None;
    for (index, argument) in argv.iter().enumerate() {
        if argument.contains('\0') {
            reported = Some(reader.item_fault(key, index, "holds a NUL", "an argument"));
        } else if index == 0 && !Path::new(argument).is_absolute() {
            let what = "is not an absolute path";
            let expected = "the program's path, which starts with \"/\"";
            reported = Some(reader.item_fault(key, index, what, expected));
        }
    }
    reported.map_or(Ok(argv), Err)
}

//! `[[pool]]` and `[[pool.backend]]`: who serves, and how flows are spread.

use super::address::not_unicast;
use super::quic;
use crate::HashSecret;
use crate::model::{Backend, BackendState, Forwarding, Pool, Scheduler};
use crate::prime::{is_prime, nearest_primes};
use crate::reader::{Reader, label};
use crate::report::Reported;
use crate::schema::keys::{BACKEND, backend, pool as keys};
use std::collections::HashMap;
use std::net::IpAddr;

/// A pool, with the lines that checks across sections point at.
pub(crate) struct PoolEntry {
    pub(crate) pool: Pool,
    pub(crate) line: usize,
    /// Line of each backend's address.
    pub(crate) address_lines: Vec<usize>,
}

/// `label` is the pool's: `pool "web"`.
pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<PoolEntry, Reported> {
    let id = reader.name(&keys::ID);
    let scheduler = reader
        .choice(&keys::SCHEDULER, &[("maglev", Scheduler::Maglev), ("ring", Scheduler::Ring)]);
    let table_size = read_table_size(&mut reader);
    let forwarding = reader.choice(
        &keys::FORWARDING,
        &[
            ("ipip", Forwarding::Ipip),
            ("gre", Forwarding::Gre),
            ("gue", Forwarding::Gue),
            ("l2dsr", Forwarding::L2dsr),
        ],
    );
    let gue = read_gue(&mut reader, forwarding, scheduler);
    let hash_secret = read_hash_secret(&mut reader, id.as_deref().ok());
    let drain = reader.seconds(&keys::DRAIN_SECONDS);
    let quic = quic::read(&mut reader);
    let backends = read_backends(&mut reader);
    if let (Ok(table_size), Ok((backends, ..))) = (&table_size, &backends) {
        check_capacity(&mut reader, *table_size, backends)?;
    }
    let (backends, address_lines, server_id_lines) = backends?;
    let quic = quic?;
    let (gue_variant, second_chance) = gue?;
    let label = reader.label().to_owned();
    quic::check_server_ids(reader.report, &label, &quic, &backends, &server_id_lines)?;
    let pool = Pool {
        id: id?,
        scheduler: scheduler?,
        table_size: table_size?,
        forwarding: forwarding?,
        gue_variant,
        second_chance,
        hash_secret: hash_secret?,
        drain: drain?,
        backends,
        quic,
    };
    Ok(PoolEntry { pool, line: reader.line(), address_lines })
}

/// Variant and second chance, which go with a mode and a scheduler only.
fn read_gue(
    reader: &mut Reader<'_, '_>,
    forwarding: Result<Forwarding, Reported>,
    scheduler: Result<Scheduler, Reported>,
) -> Result<(u8, bool), Reported> {
    let variant: u8 = reader.integer(&keys::GUE_VARIANT)?;
    let second_chance = reader.boolean(&keys::SECOND_CHANCE)?;
    if variant == 0 && forwarding? != Forwarding::Gue {
        let what = "is without forwarding = \"gue\"";
        return Err(reader.fault(&keys::GUE_VARIANT, what, "forwarding = \"gue\" beside it"));
    }
    if second_chance && variant != 0 {
        let what = "is without gue_variant = 0";
        let expected = "gue_variant = 0 beside it: the header of variant 1 names nobody";
        return Err(reader.fault(&keys::SECOND_CHANCE, what, expected));
    }
    if second_chance && scheduler? != Scheduler::Maglev {
        let what = "is without scheduler = \"maglev\"";
        let expected = "scheduler = \"maglev\" beside it: only its slots have owners to name";
        return Err(reader.fault(&keys::SECOND_CHANCE, what, expected));
    }
    Ok((variant, second_chance))
}

fn read_table_size(reader: &mut Reader<'_, '_>) -> Result<u32, Reported> {
    let key = &keys::TABLE_SIZE;
    let size = reader.integer(key)?;
    if is_prime(size) {
        return Ok(size);
    }
    let nearest = match nearest_primes(size, keys::LARGEST_TABLE) {
        (Some(below), Some(above)) => format!("nearest are {below} and {above}"),
        (below, above) => format!("nearest is {}", below.or(above).unwrap_or(65_537)),
    };
    Err(reader.fault(key, "is not prime", &format!("a prime; {nearest}")))
}

fn read_hash_secret(reader: &mut Reader<'_, '_>, id: Option<&str>) -> Result<HashSecret, Reported> {
    if let Some(secret) = reader.optional_notation(&keys::HASH_SECRET)? {
        return Ok(secret);
    }
    reader.warning(
        &keys::HASH_SECRET,
        "hash_secret is missing and is derived from the pool's id, which an attacker can do too \
         (expected 32 random hex digits, the same on every node)",
    );
    Ok(HashSecret::derived_from(id.unwrap_or_default()))
}

/// The backends, the line of each one's address, and that of its server ids.
type Backends = (Vec<Backend>, Vec<usize>, Vec<usize>);

fn read_backends(pool: &mut Reader<'_, '_>) -> Result<Backends, Reported> {
    let before = pool.report.problem_count();
    let mut backends = Vec::new();
    let mut address_lines = Vec::new();
    let mut server_id_lines = Vec::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut addresses: HashMap<IpAddr, usize> = HashMap::new();
    for (index, at) in pool.tables(&keys::BACKEND).into_iter().enumerate() {
        let label = format!("{}: {}", pool.label(), label("backend", at, &backend::ID, index));
        let mut reader = Reader::new(pool.report, &BACKEND, label, at);
        let Ok(read) = read_backend(&mut reader) else { continue };
        let id_line = reader.line_of(&backend::ID);
        if let Some(first) = ids.get(&read.id) {
            let what = format!("is already the id of the backend at line {first}");
            reader.fault(&backend::ID, &what, "an id that is unique in its pool");
        }
        let address_line = reader.line_of(&backend::ADDRESS);
        if let Some(first) = addresses.get(&read.address) {
            let message = format!(
                "address = \"{}\" is also the address of the backend at line {first}",
                read.address
            );
            reader.warning(&backend::ADDRESS, &message);
        }
        ids.entry(read.id.clone()).or_insert(id_line);
        addresses.entry(read.address).or_insert(address_line);
        address_lines.push(address_line);
        server_id_lines.push(reader.line_of(&backend::QUIC_SERVER_IDS));
        backends.push(read);
    }
    if pool.report.problem_count() == before {
        Ok((backends, address_lines, server_id_lines))
    } else {
        Err(Reported)
    }
}

fn read_backend(reader: &mut Reader<'_, '_>) -> Result<Backend, Reported> {
    let id = reader.name(&backend::ID);
    let address = read_backend_address(reader);
    let weight = reader.integer(&backend::WEIGHT);
    let state = reader.choice(
        &backend::STATE,
        &[("active", BackendState::Active), ("drain", BackendState::Drain)],
    );
    let quic_server_ids = reader.notations(&backend::QUIC_SERVER_IDS);
    Ok(Backend {
        id: id?,
        address: address?,
        weight: weight?,
        state: state?,
        quic_server_ids: quic_server_ids?,
    })
}

fn read_backend_address(reader: &mut Reader<'_, '_>) -> Result<IpAddr, Reported> {
    let key = &backend::ADDRESS;
    let address: IpAddr = reader.notation(key)?;
    if let Some(what) = not_unicast(address) {
        return Err(reader.fault(key, what, "the address of one machine"));
    }
    Ok(address)
}

/// Every backend with a weight owns at least one slot, whatever its state: a drain that is
/// called off must find room. 100 slots for each keep their shares within about 1 %.
fn check_capacity(
    reader: &mut Reader<'_, '_>,
    table_size: u32,
    backends: &[Backend],
) -> Result<(), Reported> {
    let weighted = backends.iter().filter(|backend| backend.weight > 0).count() as u64;
    if weighted > u64::from(table_size) {
        let what = format!("is less than one slot for each of {weighted} backends with a weight");
        let expected = "a prime of at least 100 times as many";
        return Err(reader.fault(&keys::TABLE_SIZE, &what, expected));
    }
    if weighted * 100 > u64::from(table_size) {
        let message = format!(
            "table_size = {table_size} is less than 100 slots for each backend, so shares will be \
             uneven (recommended is a prime of at least {})",
            weighted * 100
        );
        reader.warning(&keys::TABLE_SIZE, &message);
    }
    Ok(())
}

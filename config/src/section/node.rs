//! `[node]`, `[dpdk]`, `[conntrack]` and `[fragments]`: the machine and the process.

use super::path;
use crate::model::{Conntrack, Dpdk, EarlyFragments, FewerQueues, Fragments, Idle, Node};
use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::keys::{conntrack, dpdk, fragments, node};
use std::net::SocketAddr;

pub(crate) fn read_node(mut reader: Reader<'_, '_>) -> Result<Node, Reported> {
    let name = reader.name(&node::NAME);
    let zone = reader.name(&node::ZONE);
    let admin = read_admin(&mut reader);
    let admin_token_file = path::optional(&mut reader, &node::ADMIN_TOKEN_FILE);
    let state_dir = path::required(&mut reader, &node::STATE_DIR);
    Ok(Node {
        name: name?,
        zone: zone?,
        admin: admin?,
        admin_token_file: admin_token_file?,
        state_dir: state_dir?,
    })
}

pub(crate) fn read_dpdk(mut reader: Reader<'_, '_>) -> Result<Dpdk, Reported> {
    let memory_mib = reader.integer(&dpdk::MEMORY_MIB);
    let hugepages = reader.boolean(&dpdk::HUGEPAGES);
    let main_core = reader.integer(&dpdk::MAIN_CORE);
    let worker_cores = read_worker_cores(&mut reader);
    if let (Ok(main_core), Ok(worker_cores)) = (&main_core, &worker_cores)
        && worker_cores.contains(main_core)
    {
        reader.warning(
            &dpdk::WORKER_CORES,
            &format!("core {main_core} is main_core and in worker_cores: the worker shares it"),
        );
    }
    let idle = reader.choice(&dpdk::IDLE, &[("spin", Idle::Spin), ("backoff", Idle::Backoff)]);
    let fewer_queues = reader
        .choice(&dpdk::FEWER_QUEUES, &[("refuse", FewerQueues::Refuse), ("use", FewerQueues::Use)]);
    let file_prefix = reader.name(&dpdk::FILE_PREFIX);
    let eal_args = read_eal_args(&mut reader);
    Ok(Dpdk {
        memory_mib: memory_mib?,
        hugepages: hugepages?,
        main_core: main_core?,
        worker_cores: worker_cores?,
        eal_args: eal_args?,
        idle: idle?,
        file_prefix: file_prefix?,
        fewer_queues: fewer_queues?,
    })
}

pub(crate) fn read_fragments(mut reader: Reader<'_, '_>) -> Result<Fragments, Reported> {
    let early = reader.choice(
        &fragments::EARLY,
        &[("wait", EarlyFragments::Wait), ("hash", EarlyFragments::Hash)],
    );
    let wait_ms = reader.integer(&fragments::WAIT_MS);
    let timeout_ms = reader.integer(&fragments::TIMEOUT_MS);
    if let (Ok(wait_ms), Ok(timeout_ms)) = (wait_ms, timeout_ms)
        && wait_ms > timeout_ms
    {
        let what = format!("is more than timeout_ms = {timeout_ms}");
        return Err(reader.fault(&fragments::WAIT_MS, &what, "at most timeout_ms"));
    }
    Ok(Fragments { early: early?, wait_ms: wait_ms?, timeout_ms: timeout_ms? })
}

pub(crate) fn read_conntrack(mut reader: Reader<'_, '_>) -> Result<Conntrack, Reported> {
    Ok(Conntrack { flows: reader.integer(&conntrack::FLOWS)? })
}

/// Without a token, only processes of this machine may reach the admin server.
fn read_admin(reader: &mut Reader<'_, '_>) -> Result<SocketAddr, Reported> {
    let admin: SocketAddr = reader.notation(&node::ADMIN)?;
    // A token file that is wrong is one all the same: admin is not blamed for its lack.
    if admin.ip().to_canonical().is_loopback() || reader.is_present(&node::ADMIN_TOKEN_FILE) {
        return Ok(admin);
    }
    Err(reader.fault(
        &node::ADMIN,
        "is reachable from the network, and there is no admin_token_file",
        "a token, or a loopback address such as \"127.0.0.1:9180\"",
    ))
}

fn read_worker_cores(reader: &mut Reader<'_, '_>) -> Result<Vec<u16>, Reported> {
    let key = &dpdk::WORKER_CORES;
    let cores: Vec<u16> = reader.integers(key)?;
    if !(1..=128).contains(&cores.len()) {
        let what = format!("names {} cores", cores.len());
        return Err(reader.fault(key, &what, "1 to 128 cores"));
    }
    let mut reported = None;
    for (index, core) in cores.iter().enumerate() {
        if cores[..index].contains(core) {
            let expected = "every core once; a core has one worker";
            reported = Some(reader.item_fault(key, index, "is there twice", expected));
        }
    }
    reported.map_or(Ok(cores), Err)
}

fn read_eal_args(reader: &mut Reader<'_, '_>) -> Result<Vec<String>, Reported> {
    let key = &dpdk::EAL_ARGS;
    let arguments = reader.texts(key)?;
    let mut reported = None;
    for (index, argument) in arguments.iter().enumerate() {
        // They become C strings.
        if argument.is_empty() || argument.contains('\0') {
            let what = if argument.is_empty() { "is empty" } else { "holds a NUL" };
            reported = Some(reader.item_fault(key, index, what, "an EAL argument"));
        }
    }
    reported.map_or(Ok(arguments), Err)
}

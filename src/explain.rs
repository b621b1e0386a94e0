//! `weir explain`: what would be done with one packet, step by step, in words.
//!
//! One idea: nothing is decided here. The packet is made, the stages' own functions are asked
//! about it one by one ([`parse`], [`classify`], the pool's hash and table), and then it goes
//! through the same worker that `replay` runs; what the worker did is the answer. The node has
//! just started: it has no flows, and knows only the neighbours that the configuration names.

mod fragment;
mod packet;
mod story;
mod vip;
mod wire;

use conntrack::{KeyHasher, Segment, State};
use control::node::Node;
use control::snapshot::{BackendEntry, PoolSnapshot};
use dataplane::buffer::{Buffer, Frame};
use dataplane::classify::{Class, classify};
use dataplane::hold::{HOLD_MS, HOLD_PER_HOP};
use dataplane::icmp::quote::Quote;
use dataplane::neighbour::NeighbourState;
use dataplane::parse::{Kind, Parsed, parse};
use dataplane::port::memory::MemoryPort;
use dataplane::quic::Route;
use dataplane::second_chance::second;
use dataplane::select::{route, table_hash};
use dataplane::tables::{Affinity, BackendState, Forwarding, Tables};
use dataplane::verdict::{DropReason, NO_BACKEND, Verdict};
use dataplane::wire::IcmpHeader;
use maglev::{Scheduler, Selector};

use crate::cli::ExplainArguments;
use crate::failure::{Failure, load_static};
use crate::replay::{Bench, SEED};

use story::Story;

/// The time at which the packet arrives, in nanoseconds: a second after the node's start.
const NOW: u64 = 1_000_000_000;

/// Tells the packet's story on standard output.
pub(crate) fn explain(arguments: &ExplainArguments) -> Result<(), Failure> {
    let question = packet::Question::from_arguments(arguments)?;
    let config = load_static(&arguments.config)?;
    let port_name = config.ports.first().map(|port| port.name.clone()).unwrap_or_default();
    let mut bench = Bench::new(config, NOW / 1_000_000)?;
    let mut story = Story::default();
    tell(&question, &port_name, &mut bench, &mut story);
    story.print(&mut std::io::stdout().lock())?;
    Ok(())
}

fn tell(question: &packet::Question, port_name: &str, bench: &mut Bench, story: &mut Story) {
    let tables = bench.node.tables();
    let Some(port) = tables.ports.first() else { return };
    let bytes = question.frame(port);
    story.step("packet", format!("{question}, at port \"{port_name}\""));
    story.more(wire::hex_dump(&bytes));
    let frame = Frame::new(&bytes);
    let parsed = parse(&frame, port);
    let mut class = classify(&parsed, tables);
    parsing(&parsed, &bytes, story);
    if let Some((flow, index)) = quoted(&parsed, class, &bytes, tables) {
        error_about(&flow, index, bench, story);
        return work(frame, &parsed, bench, story);
    }
    if class == Class::Fragment {
        class = fragment::tell(&parsed, &bytes, tables, story);
    }
    if !matches!(parsed.kind, Kind::Drop(_)) && class != Class::Fragment {
        vip::tell(&parsed, class, bench, story);
    }
    if let Class::Vip(index) = class {
        let tables = bench.node.tables();
        match named_backend(&parsed, &bytes, tables, index, bench, story) {
            Some(backend) => next_hop_of(backend, tables, bench, story),
            None => {
                conntrack(&parsed, tables, index, story);
                choice(&parsed, tables, index, bench, story);
            }
        }
    }
    work(frame, &parsed, bench, story);
}

/// The flow that an ICMP error quotes, and its VIP, if it has one.
fn quoted(parsed: &Parsed, class: Class, bytes: &[u8], tables: &Tables) -> Option<(Parsed, u32)> {
    if class != Class::Icmp {
        return None;
    }
    let (start, end) = (usize::from(parsed.link_length), usize::from(parsed.ip_length));
    let message = bytes.get(start..start + end)?.get(usize::from(parsed.header_length)..)?;
    let (_, quoted) = IcmpHeader::parse(message)?;
    let key = Quote::parse(parsed.key.family(), quoted)?.flow()?;
    let vip = tables.lookup.find(key.destination_bits(), key.destination_port(), key.protocol())?;
    Some((Parsed { key, ..*parsed }, vip))
}

/// How an ICMP error finds its backend: as a packet of the flow that it quotes, which leaves no
/// trace.
fn error_about(flow: &Parsed, vip: u32, bench: &Bench, story: &mut Story) {
    let (client, dialled) = (flow.key.source(), flow.key.destination());
    story.step(
        "quote",
        format!(
            "a packet from {dialled} port {} to {client} port {}: the error is for the backend that \
             sent it",
            flow.key.destination_port(),
            flow.key.source_port()
        ),
    );
    vip::tell(flow, Class::Vip(vip), bench, story);
    story.step(
        "conntrack",
        "no entry for this flow: this process has just started and knows none; a running node that \
         has one sends the error to the backend in it. An error makes no entry, and is no sign of \
         life of one"
            .to_owned(),
    );
    choice(flow, bench.node.tables(), vip, bench, story);
}

/// What the first stage made of the frame.
fn parsing(parsed: &Parsed, bytes: &[u8], story: &mut Story) {
    if let Kind::Drop(_) = parsed.kind {
        return story.step("parse", "unsound: no other stage looks at it".to_owned());
    }
    let v4 = parsed.key.source().is_ipv4();
    story.step(
        "parse",
        format!(
            "sound: {} bytes of link header, {} of {} bytes{}, IP packet of {} of the frame's {} \
             bytes",
            parsed.link_length,
            if v4 { "IPv4 header" } else { "IPv6 header" },
            parsed.header_length,
            if v4 { " with a right checksum" } else { "" },
            parsed.ip_length,
            bytes.len(),
        ),
    );
    if parsed.kind == Kind::Icmp {
        return story.more("an ICMP message with a right checksum".to_owned());
    }
    if parsed.kind == Kind::Fragment && parsed.segment == Segment::Datagram {
        return;
    }
    let meaning = match parsed.segment {
        Segment::Syn => "SYN: opens a connection",
        Segment::Ack => "neither SYN, FIN nor RST: belongs to an open connection",
        Segment::Fin => "FIN: the client has no more to send",
        Segment::Rst => "RST: the client aborts",
        Segment::Datagram => "a datagram: opens a flow, or continues it",
    };
    story.more(meaning.to_owned());
}

/// What the packet says of its backend itself; the backend's index, if that is where it goes.
fn named_backend(
    parsed: &Parsed,
    frame: &[u8],
    tables: &Tables,
    vip: u32,
    bench: &Bench,
    story: &mut Story,
) -> Option<u32> {
    let route = route(tables, tables.vip(vip)?, parsed, frame)?;
    let (config_id, server_id) = match route {
        Route::Unroutable => {
            let text = "the connection id names no server (the client made it up, as in its first \
                        packet, or no configuration of the pool reads it): the 5-tuple decides";
            story.step("quic", text.to_owned());
            return None;
        }
        Route::Stranger { config_id, server_id } | Route::Backend { config_id, server_id, .. } => {
            (config_id, server_id)
        }
    };
    let read = format!("server id {server_id}, read by configuration {config_id}");
    let Route::Backend { backend, .. } = route else {
        story.step("quic", format!("{read}: no backend's; the 5-tuple decides"));
        return None;
    };
    let entry = backend_entry(bench, backend)?;
    let id = &entry.id;
    match entry.state {
        BackendState::Active | BackendState::Draining => {
            let text = "it is sent there whatever its 5-tuple, and whatever conntrack says; an \
                        entry is kept for what names no server";
            story.step("quic", format!("{read}: backend {id}, at {}", entry.address));
            story.more(text.to_owned());
            Some(backend)
        }
        BackendState::Unhealthy | BackendState::Evicted | BackendState::Gone => {
            let text = format!("{read}: backend {}; the 5-tuple decides", ineligible(entry));
            story.step("quic", text);
            None
        }
    }
}

/// The way to a backend by its index.
fn next_hop_of(index: u32, tables: &Tables, bench: &Bench, story: &mut Story) {
    if let Some(entry) = backend_entry(bench, index) {
        next_hop(entry, tables, index, bench, story);
    }
}

/// What the flow table says, and what it will say afterwards.
fn conntrack(parsed: &Parsed, tables: &Tables, vip: u32, story: &mut Story) {
    story.step(
        "conntrack",
        "no entry for this 5-tuple: this process has just started and knows no flow; a running \
         node that has one sends the packet to the backend in it, and asks no table"
            .to_owned(),
    );
    let Some(vip) = tables.vip(vip) else { return };
    if tables.pool(vip.pool).is_none_or(|pool| pool.selector.is_empty()) {
        return;
    }
    let state = State::opening(parsed.key.protocol(), parsed.segment);
    let idle = vip.timeouts.of(state);
    story.more(match parsed.segment {
        Segment::Rst => "a reset of an unknown flow: no entry is made".to_owned(),
        _ => format!(
            "an entry is made in state {}, forgotten after {} s without a packet",
            state.name(),
            idle / 1000
        ),
    });
}

/// The keyed hash, the slot, and who has it.
fn choice(parsed: &Parsed, tables: &Tables, vip: u32, bench: &Bench, story: &mut Story) {
    let Some((pool_index, affinity)) = tables.vip(vip).map(|vip| (vip.pool, vip.affinity)) else {
        return;
    };
    let Some(pool) = tables.pool(pool_index) else { return };
    let Some(snapshot) = pool_snapshot(&bench.node, pool_index) else { return };
    let hash = table_hash(pool, affinity, parsed);
    let hashed = match affinity {
        Affinity::Flow | Affinity::Quic => "5-tuple",
        Affinity::Source => "source address",
    };
    story.step(
        "hash",
        format!(
            "{hash:#018x}: SipHash-2-4 of the {hashed}, under the secret of pool \"{}\"",
            snapshot.pool_id
        ),
    );
    let scheduler = pool.selector.as_scheduler();
    if scheduler.is_empty() {
        let backends = snapshot.backends.len();
        story.step(
            "slot",
            format!("none: of the pool's {backends} backends none may have new flows"),
        );
        return;
    }
    story.step(
        "slot",
        match &pool.selector {
            Selector::Maglev(table) => format!(
                "{} of {} (hash x {} / 2^64) in the Maglev table of pool \"{}\"",
                table.slot_of(hash),
                table.size(),
                table.size(),
                snapshot.pool_id,
            ),
            Selector::Ring(ring) => format!(
                "the next of {} points on the ring of pool \"{}\"",
                ring.len(),
                snapshot.pool_id
            ),
        },
    );
    story.more(format!("table digest {}", scheduler.digest()));
    let Some(index) = pool.selector.pick(hash) else { return };
    let Some(entry) = backend_entry(bench, index) else { return };
    let share = scheduler.shares().iter().find(|share| share.index == index);
    let share = share.map_or(String::new(), |share| {
        format!(
            ", which gives it {} of {} {} ({:.2} % of new flows)",
            share.slots,
            scheduler.len(),
            match pool.selector {
                Selector::Maglev(_) => "slots",
                Selector::Ring(_) => "points",
            },
            share.fraction * 100.0
        )
    });
    story.step(
        "backend",
        format!("{} at {}, weight {}{share}", entry.id, entry.address, entry.weight),
    );
    if let Some((previous, address)) = second(tables, vip, index, parsed)
        && let Some((_, id)) = bench.node.assembler().backend_name(previous)
    {
        story.more(format!(
            "{id} at {address} had the slot before, and is named in the GUE header: a flow that {} \
             does not know is passed on to it",
            entry.id
        ));
    }
    let others = snapshot.backends.iter().filter(|backend| !backend.is_eligible());
    let out: Vec<String> = others.map(ineligible).collect();
    if !out.is_empty() {
        story.more(format!("not in the table: {}", out.join(", ")));
    }
    next_hop(entry, tables, index, bench, story);
}

fn ineligible(backend: &BackendEntry) -> String {
    let why = match backend.state {
        BackendState::Active => "weight 0",
        BackendState::Draining => "draining",
        BackendState::Unhealthy => "unhealthy",
        BackendState::Evicted | BackendState::Gone => "evicted",
    };
    format!("{} ({why})", backend.id)
}

/// The way to the backend, and what is known of its first hop.
fn next_hop(entry: &BackendEntry, tables: &Tables, index: u32, bench: &Bench, story: &mut Story) {
    let node = &bench.node;
    let address = entry.address;
    let Some(hop) = node.assembler().links().next_hop(address, node.neighbours()) else {
        return story.step(
            "next hop",
            format!(
                "none: {address} is on no port's link, and no port has a gateway of its family"
            ),
        );
    };
    let port = node.config().ports.get(usize::from(hop.port));
    let port = port.map_or("", |port| port.name.as_str());
    let way = match hop.address == address {
        true => format!("{address} itself, on the link of port \"{port}\""),
        false => format!("gateway {}, by port \"{port}\": {address} is on no link", hop.address),
    };
    let asks = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let known = node.neighbours().iter().find(|(other, _, _)| *other == hop);
    let link = match known {
        Some((_, NeighbourState::Static, Some(mac))) => {
            format!("{mac}, from the port's neighbors in the configuration")
        }
        Some((_, _, Some(mac))) => format!("{mac}, learned by {asks}"),
        _ => {
            format!(
                "not known: no neighbor of the port is configured for it; the node asks by {asks}"
            )
        }
    };
    story.step("next hop", way);
    story.more(format!("link address {link}"));
    if let Some(backend) = tables.backend(index) {
        let version = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let mode = match backend.encapsulation.forwarding() {
            Forwarding::Ipip => format!("ipip: an outer {version} header is put in front"),
            Forwarding::Gre => format!("gre: an outer {version} and a GRE header are put in front"),
            Forwarding::Gue => format!("gue: an outer {version} and a UDP header are put in front"),
            Forwarding::GueWithHeader => format!(
                "gue, variant 0: an outer {version}, a UDP and a GUE header are put in front"
            ),
            Forwarding::L2dsr => "l2dsr: only the link header is rewritten".to_owned(),
        };
        story.more(format!("{mode}; IP packets of up to {} bytes fit", backend.inner_mtu));
    }
}

/// The packet through the worker: what really happens.
fn work(frame: Frame, parsed: &Parsed, bench: &mut Bench, story: &mut Story) {
    let received = frame.data().to_vec();
    if let Some(port) = bench.worker.port_mut(0) {
        port.push(frame);
    }
    bench.worker.poll(NOW);
    let Some(outcome) = bench.worker.last_outcomes().first().copied() else { return };
    match outcome.verdict {
        Verdict::Forward => story.step("verdict", "forwarded".to_owned()),
        Verdict::Reply => story.step("verdict", "answered by the node".to_owned()),
        Verdict::Host => story.step("verdict", "handed to the node itself".to_owned()),
        Verdict::HandOff => story.step("verdict", "given to another worker".to_owned()),
        Verdict::Hold if outcome.backend == NO_BACKEND => {
            story.step("verdict", "held: the first fragment lets it go".to_owned());
        }
        Verdict::Hold => story.step(
            "verdict",
            format!(
                "held: up to {HOLD_PER_HOP} packets wait for this next hop, each for {} s at most; \
                 its answer lets them go",
                HOLD_MS / 1000
            ),
        ),
        Verdict::Drop(reason) => dropped(reason, story),
    }
    entry_made(parsed, bench, story);
    for (index, port) in bench.node.config().ports.iter().enumerate() {
        let sent = bench.worker.port_mut(index).map(MemoryPort::take_sent).unwrap_or_default();
        for frame in sent {
            wire::tell(&received, frame.data(), &port.name, story);
        }
    }
}

fn dropped(reason: DropReason, story: &mut Story) {
    story.step("verdict", format!("dropped, counted as {}", reason.name()));
    story.more(reason.description().to_owned());
}

/// What the worker's flow table holds now.
fn entry_made(parsed: &Parsed, bench: &Bench, story: &mut Story) {
    let table = bench.worker.conntrack();
    let hash = KeyHasher::new(SEED).hash(&parsed.key);
    let timeouts = conntrack::Timeouts::default();
    let Some(entry) = table.peek(hash, &parsed.key, (NOW / 1_000_000) as u32, &timeouts) else {
        return;
    };
    let backend = bench.node.assembler().backend_name(entry.backend()).map_or("?", |(_, id)| id);
    story.more(format!("conntrack now has the flow: {}, backend {backend}", entry.state().name()));
}

/// The pool at an index: tables number pools in the order of the snapshots.
fn pool_snapshot(node: &Node, index: u32) -> Option<&PoolSnapshot> {
    node.pools().nth(index as usize)
}

fn backend_entry(bench: &Bench, index: u32) -> Option<&BackendEntry> {
    let (pool, id) = bench.node.assembler().backend_name(index)?;
    let pool = bench.node.pools().find(|snapshot| snapshot.pool_id == pool)?;
    pool.backends.iter().find(|backend| backend.id == id)
}

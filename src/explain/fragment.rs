//! What becomes of a fragment: where its ports come from, and what it waits for.

use dataplane::classify::Class;
use dataplane::fragment::{Early, FragmentOptions, Piece};
use dataplane::parse::Parsed;
use dataplane::tables::Tables;
use dataplane::verdict::DropReason;

use super::Story;

/// Tells it; the class that the packet goes on with, as one of its flow or as what it is.
pub(super) fn tell(parsed: &Parsed, frame: &[u8], tables: &Tables, story: &mut Story) -> Class {
    let Some(piece) = Piece::read(frame, parsed) else { return Class::Fragment };
    let FragmentOptions { early, wait_ms, timeout_ms } = tables.fragments;
    let end = if piece.more { "more follow" } else { "the last" };
    let bytes = format!("bytes {} to {} of its datagram, {end}", piece.offset, piece.end() - 1);
    if piece.is_first() {
        story.step("fragment", format!("the first: {bytes}; it has the ports"));
        story.more(format!(
            "treated as a packet of its flow; others of its datagram follow it, whatever queue they \
             come in at, for {timeout_ms} ms or until all have come"
        ));
        let key = &parsed.key;
        let found =
            tables.lookup.find(key.destination_bits(), key.destination_port(), key.protocol());
        return found.map_or(Class::Drop(DropReason::NoVip), Class::Vip);
    }
    story.step("fragment", format!("{bytes}; it has no ports"));
    story.more(match early {
        Early::Wait => format!(
            "the first of its datagram has not come to this process, so it waits for that, {wait_ms} \
             ms at most; in a running node it follows the first where that has come before"
        ),
        Early::Hash => "the first of its datagram has not come to this process, so the datagram goes \
                        by the hash of source, destination and protocol"
            .to_owned(),
    });
    Class::Fragment
}

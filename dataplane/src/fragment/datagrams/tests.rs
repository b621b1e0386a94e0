//! Who loses when there is no room, and that everything comes to an end.

use std::net::Ipv4Addr;

use super::*;
use crate::buffer::Frame;
use crate::parse::parse;
use crate::tables::PortTable;
use crate::wire::MacAddress;

const TIMEOUT: u32 = 2_000;

/// A place for a datagram: its sender, its number; the set is the hash's low bits.
fn arrival(sender: u64, number: u16, set: u64, offset: u32, more: bool) -> Arrival {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let name = FlowKey::v4(Ipv4Addr::from(sender as u32), nobody, number, 0, 17);
    let flow = FlowKey::v4(Ipv4Addr::from(sender as u32), nobody, 1000, 53, 17);
    let piece = Piece { identification: u32::from(number), offset, length: 8, more };
    let flow = piece.is_first().then_some(flow);
    Arrival { name, hash: set | u64::from(number) << 32, sender, piece, flow }
}

fn waiting() -> Waiting<Frame> {
    let (mac, addresses) = (MacAddress::ZERO, Vec::new());
    let port = PortTable { mac, any_mac: true, vlan: None, mtu: 1500, addresses };
    let buffer = Frame::new(&[0; 14]);
    let parsed = parse(&buffer, &port);
    Waiting { buffer, port: 0, parsed }
}

/// Enters a fragment, and has it wait if it is early.
fn come(table: &mut Datagrams<Frame>, arrival: &Arrival, now_ms: u32) -> Entered {
    let entered = table.enter(arrival, TIMEOUT, now_ms);
    if let Entered::Headless(slot) = entered
        && table.wait(slot, waiting(), now_ms).is_err()
    {
        return Entered::Drop(DropReason::FragmentNoRoom);
    }
    if let Entered::First(slot) = entered {
        while table.next_released(slot).is_some() {}
    }
    entered
}

#[test]
fn a_complete_datagram_is_forgotten_at_once_whatever_the_order() {
    let mut table = Datagrams::default();
    for order in [[0, 8, 16], [16, 8, 0], [8, 0, 16], [16, 0, 8]] {
        for offset in order {
            come(&mut table, &arrival(1, 7, 3, offset, offset != 16), 0);
        }
        assert_eq!((table.len(), table.waiting()), (0, 0), "{order:?}");
    }
    assert_eq!(table.take_losses(), Losses::default());
}

#[test]
fn one_sender_pushes_out_at_most_one_datagram_of_others_in_a_set() {
    let mut table = Datagrams::default();
    // Eight others, each with two fragments here.
    for number in 0..8 {
        come(&mut table, &arrival(100 + u64::from(number), number, 3, 0, true), 0);
        come(&mut table, &arrival(100 + u64::from(number), number, 3, 8, true), 0);
    }
    for number in 1000..3000 {
        come(&mut table, &arrival(66, number, 3, 0, true), 1);
    }
    let left = (0..8)
        .filter(|number| {
            let later = arrival(100 + u64::from(*number), *number, 3, 16, true);
            matches!(table.enter(&later, TIMEOUT, 2), Entered::Later(_))
        })
        .count();
    assert_eq!(left, 7);
}

#[test]
fn from_forged_senders_single_fragments_go_before_datagrams_with_more() {
    let mut table = Datagrams::default();
    for number in 0..4 {
        come(&mut table, &arrival(100 + u64::from(number), number, 3, 0, true), 0);
        come(&mut table, &arrival(100 + u64::from(number), number, 3, 8, true), 0);
    }
    for number in 1000..3000 {
        come(&mut table, &arrival(u64::from(number), number, 3, 0, true), 1);
    }
    for number in 0..4 {
        let later = arrival(100 + u64::from(number), number, 3, 16, true);
        assert!(matches!(table.enter(&later, TIMEOUT, 2), Entered::Later(_)), "{number}");
    }
}

#[test]
fn what_waits_is_bounded_by_datagram_by_sender_and_in_all() {
    let mut table = Datagrams::default();
    let refused = Entered::Drop(DropReason::FragmentNoRoom);
    for piece in 1..=64 {
        let early = arrival(1, 1, 1, piece * 8, true);
        assert!(matches!(come(&mut table, &early, 0), Entered::Headless(_)));
    }
    assert_eq!(table.waiting(), 64);
    assert_eq!(come(&mut table, &arrival(1, 1, 1, 65 * 8, true), 0), refused);
    assert_eq!((table.waiting(), table.take_losses().no_room), (0, 64), "given up as a whole");
    assert_eq!(come(&mut table, &arrival(1, 1, 1, 0, true), 0), refused, "and so is the rest");
    // 128 of one sender's datagrams, over many sets.
    for number in 0..WAITING_PER_SENDER {
        let early = arrival(2, number, u64::from(number), 8, true);
        assert!(matches!(come(&mut table, &early, 0), Entered::Headless(_)), "{number}");
    }
    assert_eq!(come(&mut table, &arrival(2, 500, 127, 8, true), 0), refused);
    // Others go on, and push out the oldest, one by one.
    for number in 0..2000u16 {
        let early = arrival(u64::from(number) + 10, number, u64::from(number), 8, true);
        assert!(matches!(come(&mut table, &early, 1), Entered::Headless(_)), "{number}");
        assert!(table.waiting() <= WAITING);
    }
    assert_eq!(table.waiting(), WAITING);
    // The last 512 to come are there.
    let survivor = arrival(1999 + 10, 1999, 1999, 0, true);
    assert!(matches!(come(&mut table, &survivor, 1), Entered::First(_)));
}

#[test]
fn nobody_waits_for_longer_than_configured_and_nothing_is_remembered_for_ever() {
    let mut table = Datagrams::default();
    let start = u32::MAX - 100;
    for number in 0..300u16 {
        let now = start.wrapping_add(u32::from(number));
        let early = arrival(u64::from(number), number, u64::from(number), 8, true);
        come(&mut table, &early, now);
        table.expire(50, TIMEOUT, now);
        assert!(table.waiting() <= 50, "{} wait", table.waiting());
    }
    assert_eq!(table.take_losses().timeout, 250);
    // The first came too late: the datagram is lost, and says so.
    let late = table.enter(&arrival(0, 0, 0, 0, true), TIMEOUT, start.wrapping_add(300));
    assert_eq!(late, Entered::Drop(DropReason::FragmentTimeout));
    for _ in 0..DATAGRAMS {
        table.expire(50, TIMEOUT, start.wrapping_add(300 + TIMEOUT));
    }
    assert_eq!((table.len(), table.waiting()), (0, 0));
}

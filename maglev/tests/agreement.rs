//! All nodes agree: order, repetition and indices do not matter; ids, weights, size and secret do.

use maglev::{Error, MAX_SLOTS, Maglev, Member, Permutation, Ring, Scheduler, VerifyError, verify};
use proptest::prelude::*;

use crate::pool::{Pool, SECRET, scramble};

mod pool;

#[test]
fn the_order_of_members_and_their_indices_do_not_matter() {
    let pool = Pool::new(200, |i| 1 + i % 13);
    let mut other = pool.members();
    other.sort_by_key(|member| scramble(u64::from(member.index)));
    for (index, member) in (500..).zip(&mut other) {
        member.index = index;
    }
    let shuffled = Maglev::build(&other, 4099, SECRET).expect("valid");
    let table = pool.table(4099);
    assert_eq!(table.digest(), shuffled.digest());
    let id_of = |index| other.iter().find(|member| member.index == index).map(|m| m.id);
    for (slot, id) in pool.owners(4099).into_iter().enumerate() {
        assert_eq!(id_of(shuffled.slots()[slot]), Some(id));
    }
    let ring = Ring::build(&other, SECRET).expect("valid");
    assert_eq!(pool.ring().digest(), ring.digest());
}

#[test]
fn the_same_input_gives_the_same_table() {
    let pool = Pool::new(50, |i| i);
    assert_eq!(pool.table(997), pool.table(997));
    assert_eq!(pool.ring(), pool.ring());
}

#[test]
fn every_part_of_the_input_is_in_the_digest() {
    let pool = Pool::new(10, |_| 5);
    let mut renamed = pool.clone();
    renamed.backends[3].0.push('x');
    let digests = [
        *pool.table(997).digest(),
        *pool.table(1009).digest(),
        *renamed.table(997).digest(),
        *pool.reweighted(3, 6).table(997).digest(),
        *pool.without(9).table(997).digest(),
        *Maglev::build(&pool.members(), 997, [0; 16]).expect("valid").digest(),
        *pool.ring().digest(),
    ];
    for (at, digest) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(digest), "{at} is like one before");
    }
}

/// The algorithm as one would explain it: sort all turns by exact time, then walk permutations.
fn plain_table<'a>(members: &[Member<'a>], size: u32, secret: [u8; 16]) -> Vec<&'a str> {
    let mut turns = Vec::new();
    for member in members.iter().filter(|member| member.weight > 0) {
        let permutation = Permutation::new(secret, member.id, size);
        turns.extend((0..u128::from(size)).map(|turn| (turn, *member, permutation)));
    }
    let numerator = |turn| if turn == 0 { 0 } else { 2 * turn + 1 };
    turns.sort_by(|(turn_a, a, first), (turn_b, b, second)| {
        (numerator(*turn_a) * u128::from(b.weight))
            .cmp(&(numerator(*turn_b) * u128::from(a.weight)))
            .then(b.weight.cmp(&a.weight))
            .then(first.precedence.cmp(&second.precedence))
    });
    let mut slots = vec![None; size as usize];
    for (_, member, permutation) in turns.into_iter().take(size as usize) {
        let free = permutation.slots(size).find(|&slot| slots[slot as usize].is_none());
        slots[free.expect("a slot is free") as usize] = Some(member.id);
    }
    slots.into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_table_is_the_one_of_the_plain_algorithm(
        weights in prop::collection::vec(prop_oneof![0u32..8, 1u32..1 << 27], 1..30),
        size in prop::sample::select(vec![31u32, 101, 251, 499]),
        secret: [u8; 16],
    ) {
        let pool = Pool::of(&weights);
        let table = Maglev::build(&pool.members(), size, secret).expect("valid");
        let owners = table.slots().iter().map(|&index| pool.backends[index as usize].0.as_str());
        prop_assert_eq!(owners.collect::<Vec<_>>(), plain_table(&pool.members(), size, secret));
    }
}

#[test]
fn a_composite_size_is_refused_with_the_nearest_primes() {
    let refused = |size| {
        Maglev::build(&Pool::of(&[1]).members(), size, SECRET).expect_err("no prime").to_string()
    };
    assert_eq!(
        refused(65_536),
        "table size 65536 is not prime; the nearest primes are 65521 and 65537"
    );
    assert_eq!(refused(0), "table size 0 is not prime; the least prime possible is 2");
    assert_eq!(
        refused(u32::MAX),
        format!("table size 4294967295 is too large; the greatest prime possible is {MAX_SLOTS}")
    );
}

#[test]
fn more_backends_than_slots_are_refused_and_zero_weights_do_not_count() {
    let pool = Pool::new(12, |_| 1);
    assert_eq!(
        Maglev::build(&pool.members(), 11, SECRET),
        Err(Error::TooManyMembers { members: 12, size: 11 })
    );
    assert!(Maglev::build(&pool.reweighted(0, 0).members(), 11, SECRET).is_ok());
}

#[test]
fn ids_and_indices_occur_once() {
    let member = |id, index| Member { id, index, weight: 0 };
    let same_id = [member("a", 1), member("b", 2), member("a", 3)];
    let same_index = [member("z", 4), member("b", 2), member("a", 4)];
    let twice = [member("a", 1), member("a", 1)];
    let duplicate = Error::DuplicateId { id: "a".to_owned() };
    assert_eq!(Maglev::build(&same_id, 11, SECRET), Err(duplicate.clone()));
    assert_eq!(Maglev::build(&twice, 11, SECRET), Err(duplicate.clone()));
    assert_eq!(Ring::build(&same_id, SECRET), Err(duplicate));
    let error = Maglev::build(&same_index, 11, SECRET).expect_err("index 4 twice");
    assert_eq!(error.to_string(), r#"backends "a" and "z" have the same index 4"#);
}

#[test]
fn a_table_passes_from_node_to_node() {
    let pool = Pool::new(40, |i| i % 5);
    let table = pool.table(997);
    let received = Maglev::from_slots(table.slots(), 997, &pool.members()).expect("well formed");
    assert_eq!(received, table);
    assert_eq!(verify(&received, &pool.members(), SECRET), Ok(()));
    let empty = Pool::of(&[0, 0]);
    let received = Maglev::from_slots(&[], 997, &empty.members()).expect("well formed");
    assert_eq!(verify(&received, &empty.members(), SECRET), Ok(()));
}

#[test]
fn a_malformed_table_is_refused() {
    let pool = Pool::of(&[1, 1]);
    let members = pool.members();
    let from = |slots: &[u32]| Maglev::from_slots(slots, 3, &members);
    assert_eq!(from(&[0, 1]), Err(Error::Length { size: 3, found: 2 }));
    assert_eq!(from(&[0, 1, 2]), Err(Error::UnknownIndex { slot: 2, index: 2 }));
    assert!(matches!(Maglev::from_slots(&[0; 4], 4, &members), Err(Error::Size { .. })));
}

#[test]
fn a_table_with_wrong_shares_is_told_from_one_with_wrong_slots() {
    let pool = Pool::new(10, |_| 7);
    let members = pool.members();
    let good = pool.table(101);
    let check = |slots: &[u32]| {
        let table = Maglev::from_slots(slots, 101, &members).expect("well formed");
        verify(&table, &members, SECRET)
    };
    let mut slots = good.slots().to_vec();
    let other = (1..101).find(|&slot| slots[slot] != slots[0]).expect("ten backends");
    slots.swap(0, other);
    assert_eq!(check(&slots), Err(VerifyError::Slots { slots: 2, first: 0 }));
    slots[0] = slots[other];
    assert!(matches!(check(&slots), Err(VerifyError::Distribution { .. })));
    assert!(matches!(check(&[]), Err(VerifyError::Distribution { found: 0, .. })));
    assert!(matches!(check(&[3; 101]), Err(VerifyError::Distribution { .. })));
}

#[test]
fn a_table_of_other_members_is_refused() {
    let pool = Pool::new(10, |_| 7);
    let table = pool.table(101);
    let smaller = pool.without(9);
    assert!(matches!(
        verify(&table, &smaller.members(), SECRET),
        Err(VerifyError::Stranger { index: 9, .. })
    ));
    assert!(matches!(
        verify(&table, &pool.members(), [9; 16]),
        Err(VerifyError::Slots { .. } | VerifyError::Distribution { .. })
    ));
    let mut single = Pool::of(&[1]);
    let table = single.table(3);
    single.backends[0].0 = "somebody else".to_owned();
    assert!(matches!(verify(&table, &single.members(), SECRET), Err(VerifyError::Digest { .. })));
    let crowd = Pool::new(200, |_| 1);
    assert!(matches!(
        verify(&table, &crowd.members(), SECRET),
        Err(VerifyError::Unbuildable(Error::TooManyMembers { .. }))
    ));
}

//! Digests that never change: a node of any release and architecture builds these very tables.
//!
//! They were computed a second time by a program of another language that shares no code with this
//! crate and works with exact fractions.
//!
//! A failure here means that nodes of two releases would send the same flow to two backends. Do
//! not update a digest: find what changed the table.

use maglev::{FlowHasher, Scheduler};

use crate::pool::{Pool, SECRET};

mod pool;

#[test]
fn a_hundred_equal_backends_in_65537_slots() {
    let digest = Pool::new(100, |_| 100).table(65_537).digest().to_string();
    assert_eq!(digest, "3c6c578ca53ca655d56a5e185a0aabcfcd02a8eedcac93fa3602cfad8bcb8b58");
}

#[test]
fn a_small_weighted_table() {
    let table = Pool::of(&[1, 2, 3, 0, 10]).table(31);
    assert_eq!(
        table.slots(),
        [
            4, 4, 1, 4, 2, 4, 2, 2, 4, 4, 4, 0, 1, 4, 4, 4, 4, 4, 1, 4, 4, 4, 4, 2, 2, 4, 4, 4, 1,
            2, 0
        ]
    );
    assert_eq!(
        table.digest().to_string(),
        "4a6f1e5503f97d33c5148c528f440cb3c353005a0b0ff96e74cde020001292ca"
    );
}

#[test]
fn many_different_weights_in_655373_slots() {
    let digest = Pool::new(2000, |i| 1 + i * i).table(655_373).digest().to_string();
    assert_eq!(digest, "a5c23ed1e4637dfa9a450202a1f34aeba7fb74a39ed1e11d0ee74d31da898516");
}

#[test]
fn an_empty_table() {
    let digest = Pool::of(&[]).table(65_537).digest().to_string();
    assert_eq!(digest, "95317c1ffbcc516f8b02aa1715e1844e421a24f03012e994fcd6f48e8aece9a2");
}

#[test]
fn a_weighted_ring() {
    let digest = Pool::of(&[1, 2, 3, 0, 10]).ring().digest().to_string();
    assert_eq!(digest, "1b8b5289a85ca32a7891976f2d8441190e27854c4af7759324530241c77a65c9");
}

#[test]
fn ids_beyond_ascii() {
    let mut pool = Pool::of(&[1, 1, 1]);
    pool.backends[0].0 = "späti-ß".to_owned();
    pool.backends[1].0 = String::new();
    assert_eq!(
        pool.table(101).digest().to_string(),
        "1df67d35d62d589c008ce3f66c5016965f2f79450741e3883ae2750b4bdb1064"
    );
}

#[test]
fn a_flow_from_key_to_backend() {
    // 192.0.2.1:50000 to 203.0.113.1:80, TCP, packed.
    let key = [192, 0, 2, 1, 203, 0, 113, 1, 0xc3, 0x50, 0, 80, 6];
    let hash = FlowHasher::new(SECRET).hash_v4(&key);
    let table = Pool::new(100, |_| 100).table(65_537);
    assert_eq!(
        (hash, table.slot_of(hash), table.pick(hash)),
        (10_781_714_436_043_357_196, 38_304, Some(73))
    );
}

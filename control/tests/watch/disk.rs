//! The cache on disk: torn, damaged, foreign, newer, full.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use control::cache::{CacheError, FILE, Loaded, SET_ASIDE, Writer, decode, encode, load, store};
use control::fed::Fed;
use proptest::prelude::*;
use proto::v1;

use crate::controller::wait;
use crate::feed::Lab;
use crate::messages::{SECRET, complete, deleted, snapshot};

const PATIENCE: Duration = Duration::from_secs(30);

fn messages() -> Vec<v1::PoolSnapshot> {
    vec![
        complete("s"),
        deleted("s", "gone", 4),
        snapshot("s", "dns", 5, &[("x", 1)]),
        snapshot("s", "web", 6, &[("a", 1), ("b", 2)]),
    ]
}

#[test]
fn what_is_saved_comes_back() {
    let bytes = encode(&messages(), 42);
    let cached = decode(&bytes).expect("whole");
    assert_eq!((cached.messages, cached.saved_at_ns), (messages(), 42));
    let (fed, refused) = Fed::from_messages(messages(), &[]);
    assert!(refused.is_empty());
    assert_eq!(fed.messages(), messages());
    assert!(decode(&encode(&[], 0)).expect("whole").messages.is_empty());
}

#[test]
fn a_cache_cut_anywhere_or_with_any_byte_changed_is_not_used() {
    let bytes = encode(&messages(), 42);
    for length in 0..bytes.len() {
        decode(&bytes[..length]).expect_err("torn");
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        decode(&bad).expect_err("damaged");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    decode(&longer).expect_err("longer than it says");
}

#[test]
fn what_is_wrong_is_named_and_the_file_set_aside() {
    let good = encode(&messages(), 42);
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&2u32.to_be_bytes());
    let torn = good[..good.len() / 2].to_vec();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    type Check = fn(&CacheError) -> bool;
    let cases: [(Vec<u8>, Check); 5] = [
        (b"#!/bin/sh\necho a file of somebody else\n".to_vec(), |e| {
            matches!(e, CacheError::Foreign)
        }),
        (Vec::new(), |e| matches!(e, CacheError::Foreign)),
        (newer, |e| matches!(e, CacheError::Format { found: 2 })),
        (torn, |e| matches!(e, CacheError::Length { .. })),
        (damaged, |e| matches!(e, CacheError::Checksum)),
    ];
    for (bytes, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), &bytes).expect("written");
        match load(folder.path()) {
            Loaded::SetAside(error) => assert!(expected(&error), "{error}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(folder.path().join(SET_ASIDE)).expect("kept"), bytes);
        assert!(matches!(load(folder.path()), Loaded::Missing));
        // The node starts, without pools, and says why.
        fs::write(folder.path().join(FILE), &bytes).expect("written");
        let lab = Lab::new();
        let status = lab.status.clone();
        let _feed = lab.feed.with_cache(folder.path().to_owned());
        assert!(!status.view().loaded);
        assert!(status.view().cache_problem.is_some());
    }
}

#[test]
fn a_cache_with_one_bad_pool_gives_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bad = snapshot("s", "bad", 9, &[("a", 1)]);
    bad.table.as_mut().expect("a table").digest[0] ^= 1;
    bad.vips.clear();
    let mut list = messages();
    list.push(bad);
    store(folder.path(), &encode(&list, 1)).expect("stored");
    let lab = Lab::new();
    let status = lab.status.clone();
    let _feed = lab.feed.with_cache(folder.path().to_owned());
    let view = status.view();
    assert_eq!(view.pools.keys().collect::<Vec<_>>(), ["dns", "web"]);
    assert!(view.refusals.contains_key("bad"));
    assert!(view.from_cache && view.stale);
}

#[test]
fn a_write_that_was_killed_leaves_the_set_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    store(folder.path(), &encode(&messages(), 1)).expect("stored");
    // As a process leaves it that dies before the rename.
    let next = encode(&[complete("t")], 2);
    fs::write(folder.path().join("snapshots.new"), &next[..next.len() - 7]).expect("written");
    match load(folder.path()) {
        Loaded::Found(cached) => assert_eq!(cached.messages, messages()),
        other => panic!("{other:?}"),
    }
    store(folder.path(), &next).expect("stored over what was left");
    assert!(matches!(load(folder.path()), Loaded::Found(cached) if cached.saved_at_ns == 2));
}

#[test]
fn nobody_else_may_read_the_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let state_dir = folder.path().join("deep/state");
    store(&state_dir, &encode(&messages(), 1)).expect("stored");
    let file = fs::metadata(state_dir.join(FILE)).expect("the file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let made = fs::metadata(&state_dir).expect("the folder");
    assert_eq!(made.permissions().mode() & 0o777, 0o700);
    let bytes = fs::read(state_dir.join(FILE)).expect("readable for us");
    assert!(bytes.windows(16).any(|window| window == SECRET), "they are in there");
}

/// A file system of 64 KiB, where the test may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
        let status = Command::new("mount").args(options).arg(at).output().ok()?.status;
        status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_costs_a_note_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(folder.path());
    // Where nothing may be mounted, a file stands where the folder should be.
    let (state_dir, filler) = match &disk {
        Some(_) => (folder.path().to_owned(), folder.path().join("filler")),
        None => (folder.path().join("file/state"), folder.path().join("file")),
    };
    if disk.is_some() {
        store(&state_dir, &encode(&messages(), 1)).expect("it fits");
        let _ = fs::write(&filler, vec![0; 60 << 10]);
        let _ = fs::write(folder.path().join("more"), vec![0; 60 << 10]);
    } else {
        fs::write(&filler, b"in the way").expect("written");
    }
    let writer = Writer::start(state_dir.clone()).expect("a thread");
    let many: Vec<_> =
        (1..=200).map(|v| snapshot("s", &format!("pool-{v}"), v, &[("a", 1), ("b", 1)])).collect();
    writer.save(many.clone());
    let state = wait("a failed write", || {
        let state = writer.state();
        (state.failed > 0).then_some(state)
    });
    assert!(state.error.is_some());
    assert_eq!(state.written, 0);
    if disk.is_some() {
        match load(&state_dir) {
            Loaded::Found(cached) => assert_eq!(cached.messages, messages(), "the old set"),
            other => panic!("{other:?}"),
        }
        assert!(!state_dir.join("snapshots.new").exists(), "nothing half is left");
    }
    // Space again: what is waiting is written without being asked for.
    let _ = fs::remove_file(folder.path().join("more"));
    fs::remove_file(&filler).expect("removed");
    assert!(writer.flush(PATIENCE), "{:?}", writer.state());
    assert_eq!(writer.state().error, None);
    match load(&state_dir) {
        Loaded::Found(cached) => assert_eq!(cached.messages, many),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_set_wins_and_the_last_is_written_when_the_writer_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = Writer::start(folder.path().to_owned()).expect("a thread");
    for version in 1..=500 {
        writer.save(vec![complete("s"), snapshot("s", "web", version, &[("a", 1)])]);
    }
    drop(writer);
    wait("the last set", || match load(folder.path()) {
        Loaded::Found(cached) => (cached.messages[1].version == 500).then_some(()),
        _ => None,
    });
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let mut framed = encode(&[], 1);
        framed.splice(12..12, bytes);
        let _ = decode(&framed);
    }
}

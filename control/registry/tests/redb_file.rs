//! The file itself: in use, damaged, of a newer release, restored, on a full disk.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{elected, numbered, put, soon};
use redb::{Database, TableDefinition};
use registry::{Error, GapReason, Observed, RedbSettings, RedbStore, Registry, Status};
use tempfile::TempDir;

struct Home {
    folder: TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.redb");
        Self { folder, path }
    }

    async fn open(&self) -> Result<RedbStore, Error> {
        RedbStore::open(RedbSettings::new(&self.path)).await
    }

    /// A file with one row.
    async fn filled() -> Self {
        let home = Self::new();
        let store = home.open().await.unwrap();
        let term = elected(&store, "a").await;
        put(&store, term.fence(), vec![numbered("b", 1)]).await;
        home
    }
}

/// The error must be `Corrupt` and name the file.
fn damaged(error: &Error, path: &Path) {
    assert_eq!(error.status(), Status::DataLoss, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_second_user_of_the_file_is_refused_and_may_have_it_afterwards() {
    let home = Home::new();
    let first = home.open().await.unwrap();
    let error = home.open().await.unwrap_err();
    assert!(matches!(&error, Error::Locked(path) if *path == home.path), "{error}");
    drop(first);
    home.open().await.unwrap();
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let home = Home::new();
    let _store = home.open().await.unwrap();
    let mode = fs::metadata(&home.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_is_something_else_is_named_and_left_alone() {
    let home = Home::new();
    for content in [b"[controller]\nlisten = 1\n".repeat(400), vec![0; 65536], vec![7; 3]] {
        fs::write(&home.path, &content).unwrap();
        let error = home.open().await.unwrap_err();
        damaged(&error, &home.path);
        assert_eq!(fs::read(&home.path).unwrap(), content);
    }
}

#[tokio::test]
async fn what_a_killed_program_left_of_a_new_file_is_in_nobodys_way() {
    let home = Home::new();
    let draft = home.folder.path().join("registry.redb.new");
    for left in [vec![], vec![0; 65536], vec![7; 3]] {
        fs::write(&draft, left).unwrap();
        let store = home.open().await.unwrap();
        assert!(!draft.exists());
        assert_eq!(fs::metadata(&home.path).unwrap().nlink(), 1);
        // The lock went with the name.
        assert!(matches!(home.open().await.unwrap_err(), Error::Locked(path) if path == home.path));
        drop(store);
        fs::remove_file(&home.path).unwrap();
    }
    // Or of its name alone.
    fs::write(&home.path, []).unwrap();
    let inode = fs::metadata(&home.path).unwrap().ino();
    drop(home.open().await.unwrap());
    assert_ne!(fs::metadata(&home.path).unwrap().ino(), inode);
    fs::remove_file(&home.path).unwrap();
    // Another program is making it at this moment.
    let other = fs::File::create(&draft).unwrap();
    other.lock().unwrap();
    assert!(matches!(home.open().await.unwrap_err(), Error::Locked(path) if path == home.path));
    assert!(draft.exists());
    drop(other);
    home.open().await.unwrap();
}

#[tokio::test]
async fn of_programs_that_start_together_one_makes_the_file() {
    for _ in 0..20 {
        let home = Home::new();
        let (a, b, c) = tokio::join!(home.open(), home.open(), home.open());
        let stores: Vec<_> = [a, b, c].into_iter().filter_map(Result::ok).collect();
        assert_eq!(stores.len(), 1);
        let term = elected(&stores[0], "a").await;
        put(&stores[0], term.fence(), vec![numbered("b", 1)]).await;
        drop(stores);
        let again = home.open().await.unwrap().snapshot().await.unwrap();
        assert_eq!(again.backends.len(), 1);
    }
}

#[tokio::test]
async fn a_link_that_leads_nowhere_is_followed() {
    let home = Home::new();
    let target = home.folder.path().join("elsewhere.redb");
    std::os::unix::fs::symlink(&target, &home.path).unwrap();
    let _store = home.open().await.unwrap();
    assert!(target.is_file());
    assert!(fs::symlink_metadata(&home.path).unwrap().is_symlink());
}

#[tokio::test]
async fn a_damaged_file_is_named_or_shown_whole_but_never_half_read() {
    let home = Home::filled().await;
    let intact = fs::read(&home.path).unwrap();
    let mut refused = 0;
    for round in 0..80 {
        let mut bytes = intact.clone();
        if round % 4 == 0 {
            bytes.truncate(fastrand::usize(1..bytes.len()));
        } else {
            let at = fastrand::usize(..bytes.len() - 4096);
            bytes[at..at + 4096].fill(fastrand::u8(..));
        }
        fs::write(&home.path, &bytes).unwrap();
        let read = match home.open().await {
            Ok(store) => store.snapshot().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(snapshot) => assert_eq!(snapshot.backends.len(), 1),
            Err(error) => {
                damaged(&error, &home.path);
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "{refused}");
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_with_both_numbers() {
    let home = Home::filled().await;
    let database = Database::open(&home.path).unwrap();
    let write = database.begin_write().unwrap();
    let numbers: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
    write.open_table(numbers).unwrap().insert("format", 7).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = home.open().await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 7, known: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_backup_put_in_place_of_the_file_is_another_store() {
    let home = Home::filled().await;
    let backup = home.folder.path().join("backup");
    fs::copy(&home.path, &backup).unwrap();
    let store = home.open().await.unwrap();
    let (id, first) = (store.store_id(), elected(&store, "a").await);
    put(&store, first.fence(), vec![numbered("b", 2)]).await;
    drop(store);
    // The same file again, in between, is the same store.
    assert_eq!(home.open().await.unwrap().store_id(), id);

    fs::copy(&backup, &home.path).unwrap();
    let store = home.open().await.unwrap();
    assert_ne!(store.store_id(), id);
    assert_eq!(store.snapshot().await.unwrap().backends["b"].row.port, 1);
    // Versions made of epochs go up all the same.
    assert!(elected(&store, "a").await.fence().epoch() >= first.fence().epoch());
    let id = store.store_id();
    drop(store);
    assert_eq!(home.open().await.unwrap().store_id(), id);

    // Moved to another machine, without what is beside it.
    let elsewhere = Home::new();
    fs::copy(&home.path, &elsewhere.path).unwrap();
    assert_ne!(elsewhere.open().await.unwrap().store_id(), id);
}

#[tokio::test]
async fn a_watch_ends_with_its_store_and_a_slow_one_is_told_that_it_lost_some() {
    let home = Home::new();
    let store = home.open().await.unwrap();
    let term = elected(&store, "a").await;
    let mut slow = store.watch(0);
    // More rows than the feed holds: 16384.
    for number in 0..180 {
        let writes = (0..100).map(|row| numbered(&format!("r{row}"), number)).collect();
        put(&store, term.fence(), writes).await;
    }
    assert_eq!(soon("a gap", slow.next()).await, Some(Observed::Gap(GapReason::Compacted)));
    let mut watch = store.watch(180);
    drop(store);
    assert_eq!(soon("the end", watch.next()).await, Some(Observed::Gap(GapReason::Closed)));
    assert_eq!(watch.next().await, None);
    // Its term is over too, and resigning has nobody to tell.
    soon("resigning", term.resign()).await;
}

#[tokio::test]
async fn a_call_to_a_busy_disk_ends_within_its_bound() {
    let home = Home::new();
    let mut settings = RedbSettings::new(&home.path);
    settings.timeout = Duration::from_nanos(1);
    let error = RedbStore::open(settings).await.unwrap_err();
    assert_eq!(error.status(), Status::DeadlineExceeded, "{error}");
}

const FULL: &str = "REGISTRY_FULL_FILE";

/// Not a test by itself: what runs under a limit of the file's size, which is as good as a full
/// disk. Lifts the limit half way through.
#[test]
#[ignore = "run by the test below"]
fn under_a_limit() {
    let Some(path) = std::env::var_os(FULL) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(RedbSettings::new(&path)).await.unwrap();
        let term = elected(&store, "a").await;
        let mut watch = store.watch(store.snapshot().await.unwrap().revision);
        let many = |number: u16| -> Vec<_> {
            (0..100).map(|row| numbered(&format!("r{row}-{number}"), number)).collect()
        };
        let mut acknowledged = 0;
        let error = loop {
            let write = store.apply(many(acknowledged), Default::default(), term.fence());
            match write.await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.status(), Status::Internal, "{error}");
        assert!(error.to_string().contains(Path::new(&path).to_str().unwrap()), "{error}");
        assert!(acknowledged > 3);
        // As long as it is full nothing is written, and what there is can be read.
        for _ in 0..3 {
            drop(store.apply(many(acknowledged), Default::default(), term.fence()).await);
            drop(store.snapshot().await);
        }
        let lift = std::process::Command::new("prlimit")
            .args(["--fsize=unlimited", "--pid", &std::process::id().to_string()])
            .status();
        assert!(lift.unwrap().success());
        // The same handle and the same term go on.
        put(&store, term.fence(), many(acknowledged)).await;
        let snapshot = store.snapshot().await.unwrap();
        assert_eq!(snapshot.backends.len(), 100 * (usize::from(acknowledged) + 1));
        for _ in 0..=acknowledged {
            match soon("a commit", watch.next()).await {
                Some(Observed::Commit(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    println!("survived");
}

#[test]
fn a_full_disk_is_an_error_and_room_on_it_ends_the_error() {
    let home = Home::new();
    let program = std::env::current_exe().unwrap();
    // 1024-byte blocks, soft limit only; the signal would end the process instead of the write.
    let script = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script, program.to_str().unwrap()])
        .args(["--ignored", "--exact", "under_a_limit", "--nocapture"])
        .env(FULL, &home.path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("survived"), "{said}{complained}");
}

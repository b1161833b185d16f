//! openraft's own tests of a store, on ours, and what they do not ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, RaftLogReader, StorageError};
use skep_proto::Code;
use tempfile::TempDir;

use super::{LogStore, Machine, Opened, Place, open};
use crate::consensus::types::{Entry, LeaderId, LogId, Proposal, TypeConfig};

struct Builder;

/// Outlives what was opened on it.
struct Disk(TempDir, Vec<Place>);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), Vec::new())
    }

    fn open(&mut self) -> Result<Opened, skep_proto::Error> {
        let opened = open(self.0.path(), Arc::default())?;
        self.1.push(opened.store.place().clone());
        Ok(opened)
    }

    /// RocksDB must be closed before the process ends, or opens it again.
    fn wait_closed(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.1.iter().any(|store| !store.is_closed()) {
            assert!(Instant::now() < deadline, "a store stays open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.wait_closed();
        }
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine, Disk> for Builder {
    async fn build(&self) -> Result<(Disk, LogStore, Machine), StorageError<TypeConfig>> {
        let mut disk = Disk::new();
        let opened = disk.open().unwrap();
        Ok((disk, opened.log, opened.machine))
    }
}

#[test]
fn the_store_passes_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { Suite::test_all(Builder).await.unwrap() });
}

#[test]
fn a_second_daemon_on_the_same_folder_is_refused() {
    let mut disk = Disk::new();
    let _first = disk.open().unwrap();
    let error = disk.open().map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Precondition);
    assert!(
        error.message.contains("another skep daemon uses"),
        "{error}"
    );
}

#[test]
fn a_damaged_store_is_named_and_not_opened() {
    let mut disk = Disk::new();
    drop(disk.open().unwrap());
    disk.wait_closed();
    for entry in std::fs::read_dir(disk.0.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("MANIFEST") {
            std::fs::write(path, b"not a manifest at all, by any means").unwrap();
        }
    }
    let error = disk.open().map(|_| ()).unwrap_err();
    assert!(
        error.message.contains(&*disk.0.path().to_string_lossy()),
        "{error}"
    );
    assert!(error.hint.contains("move"), "{}", error.hint);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = open(&file.join("data"), Arc::default())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), Code::Precondition);
    assert!(error.message.contains("cannot use"), "{error}");
}

fn entries(from: u64, to: u64) -> Vec<Entry> {
    (from..to)
        .map(|index| {
            let at = LogId::new(LeaderId::new(1, 1), index);
            Entry::new(at, EntryPayload::Normal(Proposal(vec![7; 100].into())))
        })
        .collect()
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (sender, flushed) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender))
        .await
        .unwrap();
    flushed.await.unwrap().unwrap();
}

fn write_ahead_log(disk: &Disk) -> std::path::PathBuf {
    std::fs::read_dir(disk.0.path().join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

#[tokio::test]
async fn damage_inside_the_log_is_said_and_nothing_is_forgotten_silently() {
    let mut disk = Disk::new();
    let mut opened = disk.open().unwrap();
    for n in 0..50 {
        append(&mut opened.log, entries(n, n + 1)).await;
    }
    drop(opened);
    disk.wait_closed();
    let path = write_ahead_log(&disk);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&path, bytes).unwrap();
    let error = disk.open().map(|_| ()).unwrap_err();
    assert!(error.message.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_write_that_a_crash_cut_short_is_cut_off() {
    let mut disk = Disk::new();
    let mut opened = disk.open().unwrap();
    append(&mut opened.log, entries(0, 20)).await;
    append(&mut opened.log, entries(20, 21)).await;
    drop(opened);
    disk.wait_closed();
    let path = write_ahead_log(&disk);
    let length = path.metadata().unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(length - 10).unwrap();
    let mut opened = disk.open().unwrap();
    let state = opened.log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id.map(|id| id.index), Some(19));
}

#[tokio::test]
async fn one_message_of_the_log_is_bounded_but_never_empty() {
    let mut disk = Disk::new();
    let mut opened = disk.open().unwrap();
    let large = |index| {
        let at = LogId::new(LeaderId::new(1, 1), index);
        let bytes = vec![7; 700 << 10];
        Entry::new(at, EntryPayload::Normal(Proposal(bytes.into())))
    };
    append(&mut opened.log, (0..4).map(large).collect()).await;
    let mut reader = opened.log.get_log_reader().await;
    let first = reader.limited_get_log_entries(0, 4).await.unwrap();
    assert_eq!(first.len(), 1);
    let all = reader.try_get_log_entries(0..4).await.unwrap();
    assert_eq!(all.len(), 4);
}

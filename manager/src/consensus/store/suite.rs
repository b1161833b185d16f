//! openraft's own tests of a store, on ours, and what they do not ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use skep_proto::Code;
use tempfile::TempDir;

use super::{LogStore, Machine, Opened, Place, open};
use crate::consensus::types::TypeConfig;

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

//! openraft's own tests of a store, on ours, and what they do not ask.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use skep_proto::Code;
use tempfile::TempDir;

use super::{LogStore, Machine, open};
use crate::consensus::types::TypeConfig;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path(), Arc::default()).unwrap();
        Ok((dir, opened.log, opened.machine))
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
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path(), Arc::default()).unwrap();
    let error = open(dir.path(), Arc::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Precondition);
    assert!(
        error.message.contains("another skep daemon uses"),
        "{error}"
    );
}

#[test]
fn a_damaged_store_is_named_and_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Arc::default()).unwrap());
    for entry in std::fs::read_dir(dir.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("MANIFEST") {
            std::fs::write(path, b"not a manifest at all, by any means").unwrap();
        }
    }
    let error = open(dir.path(), Arc::default()).map(|_| ()).unwrap_err();
    assert!(
        error.message.contains(&*dir.path().to_string_lossy()),
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

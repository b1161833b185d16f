//! Opening a store, and saying plainly why it cannot be opened.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    LogLevel, Options,
};
use skep_proto::{Error, Result};

use super::flusher::Flusher;
use super::machine::Published;
use super::{LOG, LogStore, META, Machine, STATE, Store, snapshot};

/// Memory for blocks read from disk, bytes. The state is in memory anyway.
const CACHE_BYTES: usize = 2 << 20;
/// What a column family gathers in memory before it writes a file, bytes.
const WRITE_BUFFER_BYTES: usize = 2 << 20;
/// Files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 64;
/// The write-ahead log is recycled beyond that, bytes.
const WAL_BYTES_MAX: u64 = 16 << 20;

/// An open store: its log and its state machine, for Raft to own.
pub struct Opened {
    /// The database. Has to be let go of before it closes.
    pub store: Store,
    /// The Raft log.
    pub log: LogStore,
    /// The state machine, loaded.
    pub machine: Machine,
}

/// Opens the store in `dir`, or makes one, and loads the world from it.
/// Blocks; the errors name the folder and what to do.
pub fn open(dir: &Path, published: Arc<Published>) -> Result<Opened> {
    let store = open_database(dir)?;
    let snapshot = snapshot::newest(&store.place().snapshots())
        .map_err(|error| unusable(dir, "its snapshots cannot be read", &error))?;
    let machine = Machine::load(store.clone(), published, snapshot)
        .map_err(|error| unusable(dir, "its state cannot be read", &error))?;
    let flusher = Flusher::start(store.clone()).map_err(|error| {
        Error::internal(format!("cannot start the disk flushing thread: {error}"))
    })?;
    let log = LogStore::new(store.clone(), flusher);
    log.check()
        .map_err(|error| unusable(dir, "its log cannot be read", &error))?;
    Ok(Opened {
        store,
        log,
        machine,
    })
}

fn open_database(dir: &Path) -> Result<Store> {
    let unwritable = |error: std::io::Error| {
        Error::precondition(format!("cannot use {}: {error}", dir.display()))
            .hint("the folder must exist on a writable disk and belong to the daemon's user")
    };
    fs::create_dir_all(dir.join("snapshots")).map_err(unwritable)?;
    let path = dir.join("db");
    let families =
        [LOG, META, STATE].map(|name| ColumnFamilyDescriptor::new(name, family_options()));
    let db = DB::open_cf_descriptors(&database_options(), &path, families)
        .map_err(|error| refused(dir, &path, &error))?;
    Ok(Store::new(db, dir.to_owned()))
}

fn refused(dir: &Path, path: &Path, error: &rocksdb::Error) -> Error {
    let text = error.as_ref().to_lowercase();
    if text.contains("lock") && error.kind() == rocksdb::ErrorKind::IOError {
        return Error::precondition(format!("another skep daemon uses {}", dir.display()))
            .hint("stop it first, or give this one a data folder of its own");
    }
    let corrupt = matches!(
        error.kind(),
        rocksdb::ErrorKind::Corruption
            | rocksdb::ErrorKind::NotSupported
            | rocksdb::ErrorKind::InvalidArgument
    ) || text.contains("no such file")
        || text.contains("truncat");
    if corrupt {
        return unusable(dir, "its database is damaged", error);
    }
    Error::precondition(format!("cannot open {}: {error}", path.display()))
        .hint("the folder must be on a writable disk with room and belong to the daemon's user")
}

fn unusable(dir: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("{} cannot be used, {what}: {error}", dir.display())).hint(format!(
        "move {} away, remove this manager from the swarm with `skep node rm --force` on another \
         one, and join again; a swarm's only manager needs a backup of the folder",
        dir.display()
    ))
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn last record is a crash and is cut off; anything else is damage and
    // has to be said: silently starting from an older log would break promises
    // already made to the other managers.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_db_write_buffer_size(4 * WRITE_BUFFER_BYTES);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_max_manifest_file_size(4 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(64 << 10);
    options.set_compression_type(DBCompressionType::None);
    options
}

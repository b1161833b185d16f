//! The state machine: the world in memory, published to readers, and written
//! beside what it was made from.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use rocksdb::WriteBatch;
use tokio::sync::{broadcast, watch};

use super::{SnapshotFile, Store, snapshot};
use crate::consensus::convert::malformed;
use crate::consensus::types::{LogId, Response, Snapshot, SnapshotMeta, StoredGroup, TypeConfig};
use crate::state::{Applied, Changed, World};

/// Transactions that a follower of the feed may be behind.
const FEED_MAX: usize = 4096;
/// Entries that are applied and written together at most.
const BATCH_MAX: usize = 256;

/// What readers see of the state machine.
#[derive(Debug)]
pub struct Published {
    /// The newest applied world.
    pub world: ArcSwap<World>,
    /// Every transaction, after the world that holds it was published.
    pub applied: broadcast::Sender<Arc<Applied>>,
    /// The last applied place in the log, after its world was published.
    pub reached: watch::Sender<Option<LogId>>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            world: ArcSwap::default(),
            applied: broadcast::Sender::new(FEED_MAX),
            reached: watch::Sender::new(None),
        }
    }
}

type Newest = Arc<Mutex<Option<(SnapshotMeta, SnapshotFile)>>>;

/// Owned by Raft.
pub struct Machine {
    store: Store,
    published: Arc<Published>,
    world: World,
    /// What `world` is the result of.
    at: SnapshotMeta,
    newest: Newest,
}

impl Machine {
    /// Reads the state as it was written last.
    pub(super) fn load(
        store: Store,
        published: Arc<Published>,
        newest: Option<(SnapshotMeta, SnapshotFile)>,
    ) -> io::Result<Self> {
        let (world, at) = (store.world()?, store.applied()?);
        let machine = Self {
            store,
            published,
            world,
            at,
            newest: Arc::new(Mutex::new(newest)),
        };
        machine.publish();
        Ok(machine)
    }

    fn publish(&self) {
        self.published.world.store(Arc::new(self.world.clone()));
        self.published.reached.send_replace(self.at.last_log_id);
    }

    /// Applies a few entries, writes what changed at once, then tells of it.
    fn apply_batch(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        let mut done = Vec::with_capacity(entries.len());
        for (entry, responder) in entries {
            self.at.last_log_id = Some(entry.log_id);
            let applied = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Membership(group) => {
                    self.at.last_membership = StoredGroup::new(Some(entry.log_id), group);
                    None
                }
                EntryPayload::Normal(proposal) => {
                    let transaction = proposal.transaction().map_err(|error| {
                        malformed(format!("log entry {}: {error}", entry.log_id.index))
                    })?;
                    let applied = self.world.apply(&transaction);
                    self.store.put_changes(&mut batch, &self.world, &applied)?;
                    Some(Arc::new(applied))
                }
            };
            done.push((applied, responder));
        }
        self.store.put_applied(&mut batch, &self.at)?;
        self.store.write(batch)?;
        self.publish();
        for (applied, responder) in done {
            if let Some(applied) = &applied {
                // Nobody listening is no fault.
                let _ = self.published.applied.send(applied.clone());
            }
            if let Some(responder) = responder {
                responder.send(Response { applied });
            }
        }
        Ok(())
    }
}

/// Writes one snapshot, beside everything else.
pub struct SnapshotBuilder {
    store: Store,
    world: World,
    at: SnapshotMeta,
    newest: Newest,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (folder, at, world) = (
            self.store.place().snapshots(),
            self.at.clone(),
            std::mem::take(&mut self.world),
        );
        let file = blocking(move || snapshot::write(&folder, &at, &world)).await?;
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some((self.at.clone(), file.clone()));
        Ok(Snapshot {
            meta: self.at.clone(),
            snapshot: file,
        })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredGroup)> {
        Ok((self.at.last_log_id, self.at.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        while let Some(entry) = entries.next().await {
            batch.push(entry?);
            if batch.len() >= BATCH_MAX {
                self.apply_batch(std::mem::take(&mut batch))?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.apply_batch(batch)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.store.clone(),
            world: self.world.clone(),
            at: self.at.clone(),
            newest: self.newest.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let (store, at) = (self.store.clone(), meta.clone());
        let (world, file) = blocking(move || {
            if snapshot.verify()? != at {
                return Err(malformed("a snapshot of something else than announced"));
            }
            let world = snapshot.world()?;
            let mut batch = WriteBatch::default();
            store.put_world(&mut batch, &world)?;
            store.put_applied(&mut batch, &at)?;
            store.write(batch)?;
            // The log before it is purged next and could not replay it.
            store.flush()?;
            let file = adopt_or_copy(&store, &snapshot, &at)?;
            Ok((world, file))
        })
        .await?;
        let before = std::mem::replace(&mut self.world, world);
        self.at = meta.clone();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta.clone(), file));
        self.publish();
        let applied = difference(&before, &self.world);
        let _ = self.published.applied.send(Arc::new(applied));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(newest.as_ref().map(|(meta, file)| Snapshot {
            meta: meta.clone(),
            snapshot: file.clone(),
        }))
    }
}

/// A received file becomes ours by its name; one of another store is copied.
fn adopt_or_copy(
    store: &Store,
    snapshot: &SnapshotFile,
    meta: &SnapshotMeta,
) -> io::Result<SnapshotFile> {
    let folder = store.place().snapshots();
    if snapshot.path().parent() == Some(folder.as_path()) {
        return snapshot::adopt(&folder, snapshot.path(), meta);
    }
    let copy = folder.join("copied.part");
    std::fs::copy(snapshot.path(), &copy)?;
    std::fs::File::open(&copy)?.sync_all()?;
    snapshot::adopt(&folder, &copy, meta)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// What a follower of the feed has to know when a snapshot took the place of
/// the transactions in between.
fn difference(before: &World, after: &World) -> Applied {
    let mut changed = Vec::new();
    if before.cluster() != after.cluster() {
        changed.push(Changed::Cluster(
            before.cluster().cloned(),
            after.cluster().cloned(),
        ));
    }
    macro_rules! table {
        ($all:ident, $one:ident, $variant:ident) => {
            for new in after.$all() {
                let old = before.$one(skep_proto::objects::Identified::id(&**new));
                if old != Some(new) {
                    changed.push(Changed::$variant(old.cloned(), Some(new.clone())));
                }
            }
            for old in before.$all() {
                if after
                    .$one(skep_proto::objects::Identified::id(&**old))
                    .is_none()
                {
                    changed.push(Changed::$variant(Some(old.clone()), None));
                }
            }
        };
    }
    table!(nodes, node, Node);
    table!(services, service, Service);
    table!(tasks, task, Task);
    Applied {
        version: after.version(),
        changed,
        ..Applied::default()
    }
}

//! Starting and ending.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::RaftLinkBeat;
use skep_proto::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::core::{Core, Me, stopped};
use super::evidence::Evidence;
use super::network::{Network, Peers, keep_links};
use super::store::{self, Opened, Published};
use super::types::{Member, Raft};
use super::{Config, Consensus, follow, reads, takeover};

/// Threads that do nothing but consensus.
const THREADS: usize = 2;
/// Threads for files, beyond those.
const FILE_THREADS_MAX: usize = 4;
/// Until a stopped Raft has let go of the store.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Threads of their own, so that load elsewhere never looks like death.
pub(super) struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
    stop: CancellationToken,
}

impl Threads {
    fn new(stop: CancellationToken) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_name("skep-raft")
            .enable_all()
            .build()
            .map_err(|error| Error::internal(format!("cannot start threads: {error}")))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            stop,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs `work` on these threads, wherever it is awaited.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = self.handle.spawn(work);
        task.await.map_err(|error| stopped(&error))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
        // The last handle may be dropped by one of these threads itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) async fn start(config: Config) -> Result<Consensus> {
    let stop = CancellationToken::new();
    let threads = Arc::new(Threads::new(stop.clone())?);
    let peers = Arc::new(Peers::new(config.credentials.clone(), threads.handle()));
    let timers = config.timers;
    let core = threads.run(assemble(config, peers, stop)).await??;
    let (readers, waiting) = reads::queue();
    let handle = threads.handle();
    handle.spawn(follow::publish(core.clone(), timers));
    handle.spawn(takeover::watch(core.clone()));
    handle.spawn(reads::serve(core.clone(), waiting));
    let beat: RaftLinkBeat = core.beat();
    handle.spawn(keep_links(
        beat,
        core.members.subscribe(),
        core.peers.clone(),
        core.evidence.clone(),
        core.stop.clone(),
    ));
    Ok(Consensus {
        core,
        readers,
        threads,
    })
}

async fn assemble(config: Config, peers: Arc<Peers>, stop: CancellationToken) -> Result<Arc<Core>> {
    let raft_config = Arc::new(config.raft()?);
    let published = Arc::new(Published::default());
    let (opened, config) = {
        let published = published.clone();
        tokio::task::spawn_blocking(move || open(config, published))
            .await
            .map_err(|error| stopped(&error))??
    };
    let Opened {
        store,
        log,
        machine,
    } = opened;
    let place = store.place().clone();
    drop(store);
    let evidence = Arc::new(Evidence::default());
    let network = Network {
        peers: peers.clone(),
        evidence: evidence.clone(),
    };
    let raft = Raft::new(config.raft_id, raft_config, network, log, machine)
        .await
        .map_err(|fatal| {
            Error::internal(format!("{} cannot be used: {fatal}", config.dir.display()))
        })?;
    Ok(Arc::new(Core {
        me: Me {
            raft_id: config.raft_id,
            node_id: config.node_id,
            addr: config.addr,
            boot: rand::random(),
        },
        raft,
        place,
        published,
        peers,
        evidence,
        leadership: watch::Sender::default(),
        fatal: watch::Sender::default(),
        members: watch::Sender::default(),
        changing: Mutex::new(()),
        stop,
    }))
}

fn open(mut config: Config, published: Arc<Published>) -> Result<(Opened, Config)> {
    let opened = store::open(&config.dir, published)?;
    let failed = |what: &str, error: io::Error| {
        Error::internal(format!("cannot {what}: {error}"))
            .hint("make room on the disk or repair it, then start again")
    };
    config.raft_id = opened
        .store
        .identity(config.raft_id)
        .map_err(|error| failed("give this manager its name", error))?;
    if config.force_new_cluster {
        let me = Member {
            node_id: config.node_id.clone(),
            addr: config.addr.clone(),
        };
        opened
            .store
            .force_alone(config.raft_id, me)
            .map_err(|error| failed("make a cluster of this manager alone", error))?;
    }
    Ok((opened, config))
}

pub(super) fn own_member(core: &Core) -> Member {
    Member {
        node_id: core.me.node_id.clone(),
        addr: core.me.addr.clone(),
    }
}

/// Ends Raft and waits until nothing uses the store any more.
pub(super) async fn stop(core: Arc<Core>) -> Result<()> {
    core.stop.cancel();
    core.raft
        .shutdown()
        .await
        .map_err(|error| stopped(&error))?;
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, core.place.closed());
    if closed.await.is_err() {
        tracing::warn!("something still uses the store");
    }
    Ok(())
}

//! One manager's time as the leader, for as long as it dispatches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{WriteRequest, WriteResponse};
use skep_proto::{Error, Result};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::liveness::Timing;
use super::logs::Broker;
use super::roster::{Clock, Roster};
use super::{presence, router};
use crate::seam::{Follow, Leadership, Write};

/// Writes of sessions that may be under way at once; more wait in their sessions.
const WRITES_MAX: usize = 256;
/// After dispatch ended without a change of leader, before it begins again.
const PAUSE: Duration = Duration::from_millis(100);
/// One look whether a quorum can be reached again.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(1);

/// What every manager's dispatcher has, leading or not.
pub(super) struct Shared {
    pub follow: Arc<dyn Follow>,
    pub write: Arc<dyn Write>,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    serial: AtomicU64,
}

impl Shared {
    pub fn new(
        follow: Arc<dyn Follow>,
        write: Arc<dyn Write>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            follow,
            write,
            clock: Clock::start(),
            shutdown,
            serial: AtomicU64::new(1),
        })
    }

    /// A number that was never given before.
    pub fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Who leads, as this manager knows it.
    pub fn leadership(&self) -> Leadership {
        self.follow.leadership().borrow().clone()
    }
}

/// One term's worth of leading: sessions, signs of life, log subscriptions.
pub(super) struct Reign {
    pub term: u64,
    /// Ends with the leadership.
    pub token: CancellationToken,
    pub shared: Arc<Shared>,
    pub roster: Roster,
    /// Something happened that may change what is to be said about a node.
    pub stirred: Notify,
    pub logs: Broker,
    period_ns: AtomicU64,
    writes: Semaphore,
}

impl Reign {
    fn begin(shared: &Arc<Shared>, term: u64) -> Arc<Self> {
        let timing = Timing::of(shared.follow.world().cluster().map(AsRef::as_ref));
        Arc::new(Self {
            term,
            token: shared.shutdown.child_token(),
            shared: shared.clone(),
            roster: Roster::default(),
            stirred: Notify::new(),
            logs: Broker::default(),
            period_ns: AtomicU64::new(timing.period_ns),
            writes: Semaphore::new(WRITES_MAX),
        })
    }

    /// The heartbeat period, without a look at the world.
    pub fn period_ns(&self) -> u64 {
        self.period_ns.load(Ordering::Relaxed)
    }

    /// The cluster's timing as it is now.
    pub fn timing(&self) -> Timing {
        let timing = Timing::of(self.shared.follow.world().cluster().map(AsRef::as_ref));
        self.period_ns.store(timing.period_ns, Ordering::Relaxed);
        timing
    }

    /// Commits one verb in this term, or not at all: what this leader saw is
    /// nothing that another one should be told.
    pub async fn write(&self, verb: Verb, timeout: Duration) -> Result<WriteResponse> {
        let request = WriteRequest {
            // All our verbs may be applied twice; none has to be remembered.
            request_id: String::new(),
            term: self.term,
            verb: Some(verb),
        };
        let attempt = async {
            let _permit = self
                .writes
                .acquire()
                .await
                .map_err(|_| Error::unavailable("this manager no longer leads"))?;
            let deadline = Instant::now() + timeout;
            self.shared.write.write(request, deadline).await
        };
        tokio::select! {
            biased;
            () = self.token.cancelled() => Err(Error::unavailable("this manager no longer leads")),
            answer = tokio::time::timeout(timeout, attempt) => answer.unwrap_or_else(|_| {
                Err(Error::unavailable(format!("nothing was committed within {timeout:?}")))
            }),
        }
    }
}

/// Dispatches whenever this manager leads, until the shutdown.
pub(super) async fn govern(shared: Arc<Shared>, current: watch::Sender<Option<Arc<Reign>>>) {
    let mut leadership = shared.follow.leadership();
    loop {
        let now = leadership.borrow_and_update().clone();
        if !now.is_self {
            tokio::select! {
                () = shared.shutdown.cancelled() => return,
                changed = leadership.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let reign = Reign::begin(&shared, now.term);
        let mut tasks = JoinSet::new();
        // The feed is taken before anybody reads the world for a full set.
        let feed = shared.follow.applied();
        tasks.spawn(router::route(reign.clone(), feed));
        tasks.spawn(presence::watch(reign.clone()));
        tasks.spawn(presence::pulse(reign.clone()));
        current.send_replace(Some(reign.clone()));
        let why = tokio::select! {
            () = shared.shutdown.cancelled() => "shutting down",
            () = lost(&mut leadership, now.term) => "another manager leads",
            () = isolated(&reign) => "no quorum can be reached",
            _ = tasks.join_next() => "a task ended",
        };
        tracing::info!(term = now.term, why, "no longer dispatching");
        current.send_replace(None);
        reign.token.cancel();
        tasks.shutdown().await;
        if shared.shutdown.is_cancelled() {
            return;
        }
        settle(&shared, &mut leadership, now.term).await;
    }
}

/// Waits until this manager no longer leads in `term`.
async fn lost(leadership: &mut watch::Receiver<Leadership>, term: u64) {
    let _ = leadership
        .wait_for(|now| !now.is_self || now.term != term)
        .await;
}

/// Waits until a leader cannot reach a quorum: another one may lead by now, and
/// the workers should look for it.
async fn isolated(reign: &Reign) {
    loop {
        let grace = Duration::from_nanos(reign.timing().grace_ns);
        tokio::time::sleep(grace / 2).await;
        let fresh = reign.shared.follow.fresh_world(Instant::now() + grace);
        if !matches!(tokio::time::timeout(grace, fresh).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Waits until leading on makes sense: a quorum is there, or somebody else leads.
async fn settle(shared: &Shared, leadership: &mut watch::Receiver<Leadership>, term: u64) {
    loop {
        {
            let now = leadership.borrow();
            if !now.is_self || now.term != term {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
        let fresh = shared.follow.fresh_world(Instant::now() + QUORUM_TIMEOUT);
        let quorum = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            fresh = tokio::time::timeout(QUORUM_TIMEOUT, fresh) => matches!(fresh, Ok(Ok(_))),
        };
        if quorum {
            return;
        }
    }
}

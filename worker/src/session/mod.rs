//! The session with the leader: finding it, one stream to it, statuses up,
//! assignments down, and the proof on a thread of its own that this host lives.
//! Losing it touches no container.

mod dialer;
mod heartbeat;
mod seek;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use skep_proto::transport::Credentials;
use skep_proto::v1::{ManagerPeer, NodeDescription, Notice};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::dialer::Dialer;
use self::heartbeat::Heartbeater;
use self::seek::Seek;
use crate::config::Heartbeats;
use crate::logs::Publishers;
use crate::store::{Known, Store};
use crate::task::{Board, TasksHandle};

/// What a session's state is, for the worker's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionState {
    /// `host:port` of the leader.
    pub connected_to: Option<String>,
    /// The newest term heard of.
    pub term: u64,
    /// Why there is no session.
    pub error: String,
}

/// What a session needs of its worker.
pub struct Session {
    /// The newest statuses.
    pub board: Arc<Board>,
    /// Where assignments go.
    pub tasks: TasksHandle,
    /// Where the managers are remembered.
    pub store: Arc<Store>,
    /// What this node is.
    pub description: watch::Receiver<NodeDescription>,
    /// The managers, as the last leader named them.
    pub managers: watch::Sender<Vec<ManagerPeer>>,
    /// How the session is.
    pub state: watch::Sender<SessionState>,
    /// Where the leader's notices go.
    pub notices: mpsc::Sender<Notice>,
    /// What publishes lines.
    pub publishers: Publishers,
    /// Managers that the operator named.
    pub seeds: Vec<String>,
    /// What this node shows and trusts.
    pub credentials: Credentials,
    /// Cancelled when this host leaves the swarm and nothing of it runs here.
    pub leaving: CancellationToken,
}

impl Session {
    /// Runs until it is aborted, or has said goodbye.
    pub async fn run(mut self, mode: Heartbeats) {
        let mut known = Known {
            managers: self.managers.borrow().clone(),
            leader: self.state.borrow().connected_to.clone().unwrap_or_default(),
            term: self.state.borrow().term,
        };
        self.state.send_modify(|state| state.connected_to = None);
        let mut dialer = Dialer::new(self.credentials.clone());
        let mut heartbeater = Heartbeater::start(mode, self.credentials.clone());
        let mut brief = 0;
        loop {
            let addrs: Vec<String> = known.managers.iter().map(|m| m.addr.clone()).collect();
            let seek = Seek::new(&known.leader, &addrs, &self.seeds);
            let leaving = self.leaving.clone();
            let opened = tokio::select! {
                opened = self.open(&mut dialer, seek, &mut known) => opened,
                () = leaving.cancelled() => return,
            };
            known.leader = opened.addr.clone();
            known.term = opened.term;
            self.state.send_replace(SessionState {
                connected_to: Some(opened.addr.clone()),
                term: known.term,
                error: String::new(),
            });
            tracing::info!(leader = %opened.addr, term = known.term, "session open");
            let start = Instant::now();
            let why = self.converse(opened, &mut known, &mut heartbeater).await;
            heartbeater.rest();
            self.publishers.stop_all();
            tracing::info!(%why, "session ended");
            self.state.send_modify(|state| {
                state.connected_to = None;
                state.term = known.term;
                state.error = why;
            });
            if self.leaving.is_cancelled() {
                return;
            }
            // Sessions that end as soon as they begin are not begun in a hurry.
            brief = if start.elapsed() < BRIEF {
                brief + 1
            } else {
                0
            };
            if brief > 1 {
                let wait = BRIEF_WAIT * u32::from(u8::try_from(brief).unwrap_or(u8::MAX));
                tokio::time::sleep(wait.min(BRIEF)).await;
            }
        }
    }

    fn remember(&self, known: &Known) {
        self.store.put_known(known.clone());
        self.state.send_if_modified(|state| {
            let changed = state.term != known.term;
            state.term = known.term;
            changed
        });
        self.managers.send_if_modified(|managers| {
            let changed = *managers != known.managers;
            managers.clone_from(&known.managers);
            changed
        });
    }
}

/// A session that ends within this hardly began.
const BRIEF: Duration = Duration::from_secs(1);
/// What each brief session in a row adds to the wait before the next.
const BRIEF_WAIT: Duration = Duration::from_millis(100);

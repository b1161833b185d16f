//! What the managers agree on: a log of transactions, the same everywhere, and
//! the world that they make. openraft over a RocksDB store and gRPC.
//!
//! - [`store`]: the log, the vote and the state on disk; snapshots.
//! - `network`: Raft's calls between managers, and the links that tell of a death.
//! - `takeover`: replacing a dead leader without waiting for timers.
//! - `members`: who is in the group, hand-over.
//! - `reads`: reads that see everything that was acknowledged.
//!
//! Invariant: nothing here knows what a transaction means; nobody else imports
//! openraft or RocksDB.

mod config;
mod convert;
mod core;
mod evidence;
mod follow;
mod members;
mod network;
mod reads;
mod start;
pub mod store;
mod takeover;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::vote::RaftLeaderId;
use skep_proto::v1::Transaction;
use skep_proto::v1::raft_server::RaftServer;
use skep_proto::{Code, Error, Result};
use tokio::sync::{broadcast, mpsc, watch};

pub use config::{Config, Timers};
pub use members::MemberStatus;
pub use network::RaftService;
pub use types::{Member, PROPOSAL_BYTES_MAX, RaftId, TypeConfig};

use self::core::{Core, stopped};
use self::members::Change;
use self::types::{LeaderId, Proposal, Response};
use crate::seam::{Follow, Leadership};
use crate::state::{Applied, World};

/// Largest message of the Raft service, bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The consensus of one manager. Clones share it. It ends with
/// [`Consensus::shutdown`], or abruptly with the last clone.
#[derive(Clone)]
pub struct Consensus {
    core: Arc<Core>,
    readers: mpsc::Sender<reads::Reader>,
    /// Last: its threads end when nothing else is left.
    threads: Arc<start::Threads>,
}

/// A transaction on its way through the log. Dropping it does not call it back.
#[must_use = "the outcome is known only once this was awaited"]
pub struct Proposed(BoxFuture<'static, Result<Arc<Applied>>>);

impl Proposed {
    /// Waits until the transaction is applied here, or can be no longer known.
    pub async fn applied(self) -> Result<Arc<Applied>> {
        self.0.await
    }
}

impl Consensus {
    /// Opens what is in `config.dir`, or makes it, and takes part in the group
    /// that it knows. Without one: waits for [`Consensus::found`], or for the
    /// leader of another group to add this manager to it.
    ///
    /// Mount [`Consensus::raft_service`] on the cluster listener before any of that.
    pub async fn start(config: Config) -> Result<Self> {
        start::start(config).await
    }

    /// Founds a group of this one manager, and applies the first transaction.
    /// The disk must know no group yet.
    pub async fn found(&self, initial: Transaction, deadline: Instant) -> Result<Arc<Applied>> {
        let proposal = Proposal::new(&initial)?;
        let me = start::own_member(&self.core);
        match self
            .core
            .raft
            .initialize(BTreeMap::from([(self.core.me.raft_id, me)]))
            .await
        {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                return Err(Error::precondition("this node is in a swarm already")
                    .hint("`skep swarm leave` first"));
            }
            Err(RaftError::APIError(error)) => return Err(Error::internal(error.to_string())),
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        }
        let led = self
            .core
            .led(deadline, |leadership| leadership.is_self)
            .await;
        let term = led
            .ok_or_else(|| Error::new(Code::Timeout, "this manager did not become the leader"))?
            .term;
        self.enqueue(proposal, term).await?.applied().await
    }

    /// Whether this manager is in a group, or has been told of one.
    pub async fn is_member(&self) -> Result<bool> {
        let initialized = self.core.raft.is_initialized().await;
        initialized.map_err(|fatal| stopped(&fatal))
    }

    /// Commits and applies a transaction, only if this manager leads in `term`
    /// until then. After an [`Code::Unavailable`] error it may have happened all
    /// the same, unless the message says that it was not proposed.
    pub async fn propose(&self, transaction: &Transaction, term: u64) -> Result<Arc<Applied>> {
        self.submit(transaction, term).await?.applied().await
    }

    /// The first half of [`Consensus::propose`]: what is submitted one after the
    /// other is in the log in that order.
    pub async fn submit(&self, transaction: &Transaction, term: u64) -> Result<Proposed> {
        self.enqueue(Proposal::new(transaction)?, term).await
    }

    async fn enqueue(&self, proposal: Proposal, term: u64) -> Result<Proposed> {
        let (responder, completed) = ProgressResponder::complete_only();
        self.core
            .raft
            .write(proposal)
            .with_leader(LeaderId::new(term, self.core.me.raft_id))
            .responder(responder)
            .await
            .map_err(|fatal| stopped(&fatal))?;
        Ok(Proposed(Box::pin(async move {
            match completed.await {
                Ok(Ok(done)) => {
                    let Response { applied } = done.data;
                    applied.ok_or_else(|| Error::internal("an entry without a transaction"))
                }
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Error::unavailable(
                    "this manager does not lead any more; nothing was proposed",
                )),
                Ok(Err(error)) => Err(Error::unavailable(format!(
                    "the leader changed before the change was known to be kept: {error}"
                ))),
                Err(_) => Err(stopped(&"while the change was on its way")),
            }
        })))
    }

    /// The gRPC service for the cluster listener. It answers nobody without a
    /// manager's certificate.
    pub fn raft_service(&self) -> RaftServer<RaftService> {
        RaftServer::new(RaftService(self.core.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Consensus' own threads. Whatever serves [`Consensus::raft_service`] is
    /// best spawned there: load elsewhere must not look like death.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.threads.handle()
    }

    /// This manager's name in the group.
    pub fn raft_id(&self) -> RaftId {
        self.core.me.raft_id
    }

    /// Every member of the group, as this manager sees it.
    pub fn members(&self) -> Vec<MemberStatus> {
        self.core.member_statuses()
    }

    /// Adds a manager to the group as a voter, by the leader, wherever it is.
    /// The new one must be started and serve at `member.addr`: it is dialled
    /// back, then sent all it lacks, and votes once it has caught up.
    pub async fn add_member(
        &self,
        raft_id: RaftId,
        member: Member,
        deadline: Instant,
    ) -> Result<()> {
        let (core, change) = (self.core.clone(), Change::Add(raft_id, member));
        self.threads
            .run(core.change_members(change, deadline))
            .await?
    }

    /// Removes a manager from the group, by the leader, wherever it is. Refused
    /// when the others would lose their quorum by it.
    pub async fn remove_member(&self, raft_id: RaftId, deadline: Instant) -> Result<()> {
        let (core, change) = (self.core.clone(), Change::Remove(raft_id));
        self.threads
            .run(core.change_members(change, deadline))
            .await?
    }

    /// If this manager leads, lets the most caught-up other one lead instead.
    /// Done when that one does. For an orderly end, a demotion, a leave.
    pub async fn transfer_away(&self, deadline: Instant) -> Result<()> {
        let core = self.core.clone();
        self.threads
            .run(async move { core.transfer_away(deadline).await })
            .await?
    }

    /// Has whoever leads hand over to another manager.
    pub async fn step_down_leader(&self, deadline: Instant) -> Result<()> {
        let core = self.core.clone();
        let leader = core.leadership.borrow().leader.clone();
        self.threads
            .run(async move {
                match leader {
                    Some(leader) if leader.raft_id != core.me.raft_id => {
                        core.ask_to_step_down(&leader, deadline).await
                    }
                    _ => core.transfer_away(deadline).await,
                }
            })
            .await?
    }

    /// Set once this manager can take part in no decisions any more: its disk
    /// failed. The error says what to do. The others go on.
    pub fn fatal(&self) -> watch::Receiver<Option<Error>> {
        self.core.fatal.subscribe()
    }

    /// Ends everything and closes the store. Hand over first, or the others
    /// have to notice.
    pub async fn shutdown(&self) -> Result<()> {
        let core = self.core.clone();
        self.threads.run(start::stop(core)).await?
    }
}

impl Follow for Consensus {
    fn world(&self) -> Arc<World> {
        self.core.published.world.load_full()
    }

    fn applied(&self) -> broadcast::Receiver<Arc<Applied>> {
        self.core.published.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }

    fn fresh_world(&self, deadline: Instant) -> BoxFuture<'_, Result<Arc<World>>> {
        Box::pin(reads::read(&self.readers, deadline))
    }
}

//! Reads that see everything acknowledged before they began: the leader asks a
//! quorum whether it still leads (ReadIndex), and the reader waits until it has
//! applied that much. Never a lease: a takeover does not wait for one to end.
//!
//! Readers that come together share one round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use skep_proto::v1::RaftReadIndexRequest;
use skep_proto::{Code, Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::convert::log_id_in;
use super::core::{Core, stopped};
use super::network::Lane;
use super::types::LogId;
use crate::state::World;

/// Readers that may wait for a round.
const READERS_MAX: usize = 4096;
/// Until one attempt is given up and the leader looked for again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two attempts, unless somebody else leads before that.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A reader on its way into the next round.
pub(super) struct Reader {
    deadline: Instant,
    answer: oneshot::Sender<Result<Arc<World>>>,
}

/// Where readers wait.
pub(super) fn queue() -> (mpsc::Sender<Reader>, mpsc::Receiver<Reader>) {
    mpsc::channel(READERS_MAX)
}

/// Waits in `queue` for the answer of the next round.
pub(super) async fn read(queue: &mpsc::Sender<Reader>, deadline: Instant) -> Result<Arc<World>> {
    let (answer, answered) = oneshot::channel();
    let reader = Reader { deadline, answer };
    let waited = tokio::time::timeout_at(deadline.into(), async {
        queue
            .send(reader)
            .await
            .map_err(|_| stopped(&"shutting down"))?;
        answered
            .await
            .unwrap_or_else(|_| Err(stopped(&"shutting down")))
    });
    waited.await.unwrap_or_else(|_| Err(late()))
}

fn late() -> Error {
    Error::new(
        Code::Unavailable,
        "no leader confirmed the newest state in time",
    )
    .hint("`skep node ls` on any manager shows which managers are reachable; a majority must be")
}

/// Runs one round after the other until consensus stops.
pub(super) async fn serve(core: Arc<Core>, mut readers: mpsc::Receiver<Reader>) {
    let mut round = Vec::new();
    loop {
        tokio::select! {
            received = readers.recv_many(&mut round, READERS_MAX) => if received == 0 { return },
            () = core.stop.cancelled() => return,
        }
        let latest = round.iter().map(|reader| reader.deadline).max();
        let result = tokio::select! {
            result = fresh(&core, latest.unwrap_or_else(Instant::now)) => result,
            () = core.stop.cancelled() => Err(stopped(&"shutting down")),
        };
        for reader in round.drain(..) {
            let _ = reader.answer.send(result.clone());
        }
    }
}

async fn fresh(core: &Core, deadline: Instant) -> Result<Arc<World>> {
    let mut leadership = core.leadership.subscribe();
    loop {
        leadership.mark_unchanged();
        let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, core.read_index());
        let mut reached = core.published.reached.subscribe();
        match attempt.await {
            Ok(Ok(index)) => {
                let applied = reached.wait_for(|at| at.is_some_and(|at| at.index >= index.index));
                return match tokio::time::timeout_at(deadline.into(), applied).await {
                    Ok(Ok(_)) => Ok(core.published.world.load_full()),
                    Ok(Err(_)) => Err(stopped(&"shutting down")),
                    Err(_) => Err(late()),
                };
            }
            Ok(Err(error)) if !error.is_retryable() => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        let pause = RETRY_PAUSE.min(deadline.saturating_duration_since(Instant::now()));
        let _ = tokio::time::timeout(pause, leadership.changed()).await;
    }
}

impl Core {
    /// Up to where a reader has to have applied, as a quorum confirms now.
    async fn read_index(&self) -> Result<LogId> {
        let leader = self.leadership.borrow().leader.clone();
        let Some(leader) = leader else {
            return Err(Error::unavailable("no manager leads at the moment"));
        };
        if leader.raft_id == self.me.raft_id {
            return self.read_index_here().await;
        }
        let mut client = self
            .peers
            .client(leader.raft_id, &leader.addr, Lane::Control);
        let question = RaftReadIndexRequest { to: leader.raft_id };
        let answer = client.read_index(question).await.map_err(unreached)?;
        answer
            .into_inner()
            .log_id
            .as_ref()
            .map(log_id_in)
            .ok_or_else(|| Error::internal("a read index without a place in the log"))
    }

    /// The same, asked of the leader itself.
    pub(super) async fn read_index_here(&self) -> Result<LogId> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(*read.log_id()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                Err(Error::unavailable("this manager does not lead any more"))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Error::unavailable("the leader reaches no majority"))
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }
}

/// Another manager's refusal may be a matter of the moment: who leads changes.
fn unreached(status: tonic::Status) -> Error {
    let error = Error::from(status);
    match error.code() {
        Code::Permission => error,
        _ => Error::unavailable(format!("the leader does not answer: {error}")),
    }
}

//! The way from a request to a committed transaction.
//!
//! On the leader one task takes the waiting requests together, lets `control`
//! turn each into changes and the engine decide what follows from them, and
//! commits it all as one Raft entry: a new service's tasks are created and
//! placed where the service is. On any other manager a request goes to the
//! leader, and waits out an election.
//!
//! Invariant: nothing else proposes; nothing here decides.

mod batch;
mod forward;
mod lead;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use skep_proto::transport::Credentials;
use skep_proto::v1::{Transaction, WriteRequest, WriteResponse};
use skep_proto::{Code, Error, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::seam::{Follow, Leadership, Write};
use crate::state::Applied;
use forward::Forward;

/// Requests that may wait for the leader's next entry; more have to wait outside.
const QUEUE_MAX: usize = 1024;
/// Between two attempts while nobody leads and nothing is heard.
const RETRY_PAUSE: Duration = Duration::from_millis(15);

/// Commits transactions; what the proposer asks of consensus.
pub trait Propose: Send + Sync + 'static {
    /// Commits and applies `transaction` if this manager still leads in `term`.
    /// Transactions proposed one after the other are applied in that order.
    fn propose(&self, transaction: Transaction, term: u64) -> BoxFuture<'_, Result<Arc<Applied>>>;
}

/// A request on its way into the next entry.
struct Queued {
    request: WriteRequest,
    answer: oneshot::Sender<Result<WriteResponse>>,
}

/// The handle that everybody writes through. Clones share one queue.
#[derive(Clone)]
pub struct Proposer {
    follow: Arc<dyn Follow>,
    queue: mpsc::Sender<Queued>,
    forward: Arc<Forward>,
}

impl Proposer {
    /// Starts the leader's task, which sleeps while another manager leads and
    /// ends with `shutdown`.
    pub fn start(
        follow: Arc<dyn Follow>,
        propose: Arc<dyn Propose>,
        credentials: Credentials,
        shutdown: CancellationToken,
    ) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let task = lead::Lead::new(follow.clone(), propose, requests);
        tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self {
            follow,
            queue,
            forward: Arc::new(Forward::new(credentials)),
        }
    }

    /// One attempt: here if we lead, else at the leader.
    async fn attempt(
        &self,
        leadership: &Leadership,
        request: &WriteRequest,
        deadline: Instant,
    ) -> Result<WriteResponse> {
        if leadership.is_self {
            let (answer, answered) = oneshot::channel();
            let queued = Queued {
                request: request.clone(),
                answer,
            };
            self.queue
                .send(queued)
                .await
                .map_err(|_| Error::unavailable("this manager is shutting down"))?;
            return answered
                .await
                .unwrap_or_else(|_| Err(Error::unavailable("the leader changed")));
        }
        match &leadership.leader {
            Some(leader) => self.forward.write(leader, request, deadline).await,
            None => Err(Error::unavailable("no manager leads at the moment")),
        }
    }

    async fn until(&self, request: WriteRequest, deadline: Instant) -> Result<WriteResponse> {
        let mut leadership = self.follow.leadership();
        let mut last = Error::unavailable("no manager leads at the moment");
        loop {
            let now = leadership.borrow_and_update().clone();
            if request.term != 0 && (!now.is_self || now.term != request.term) {
                return Err(Error::unavailable(format!(
                    "this manager does not lead in term {}",
                    request.term
                )));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(give_up(&last));
            }
            // A leader that is silently gone never answers what it was sent; its
            // successor does. The request's id makes sure that it is applied once.
            let mut watched = leadership.clone();
            let attempt = tokio::time::timeout(left, self.attempt(&now, &request, deadline));
            let answer = tokio::select! {
                answer = attempt => answer,
                () = another_leads(&mut watched, &now), if !now.is_self => continue,
            };
            match answer {
                Ok(Err(error)) if error.is_retryable() => last = error,
                Ok(answer) => return answer,
                Err(_) => return Err(give_up(&last)),
            }
            // Somebody else leads now, or the same leader can be reached again.
            let pause = RETRY_PAUSE.min(deadline.saturating_duration_since(Instant::now()));
            let _ = tokio::time::timeout(pause, leadership.changed()).await;
        }
    }
}

impl Write for Proposer {
    fn write(
        &self,
        request: WriteRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<WriteResponse>> {
        Box::pin(self.until(request, deadline))
    }
}

/// Until a leader other than that of `now` is known.
async fn another_leads(leadership: &mut watch::Receiver<Leadership>, now: &Leadership) {
    let another =
        |next: &Leadership| next.is_self || (next.leader.is_some() && next.leader != now.leader);
    if leadership.wait_for(another).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Time is up; whether the last attempt was applied is not known.
fn give_up(last: &Error) -> Error {
    Error::new(
        Code::Timeout,
        format!(
            "no answer from the swarm's leader in time: {}",
            last.message
        ),
    )
    .hint(
        "more than half of the managers must be online; `skep node ls` on any manager shows \
         which are. The same request may be sent again: it is applied once",
    )
}

impl Propose for crate::consensus::Consensus {
    fn propose(&self, transaction: Transaction, term: u64) -> BoxFuture<'_, Result<Arc<Applied>>> {
        Box::pin(
            async move { crate::consensus::Consensus::propose(self, &transaction, term).await },
        )
    }
}

//! Answers without an end of their own: they end when this manager stops, or
//! when their caller may no longer ask, and say so.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use skep_proto::transport::Caller;
use skep_proto::{Error, Result};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::identity::authorize_operator;
use crate::seam::Follow;
use crate::state::{Applied, Changed};

/// What ends a stream from outside.
pub(super) struct Ending {
    pub follow: Arc<dyn Follow>,
    pub caller: Caller,
    pub shutdown: CancellationToken,
}

impl Ending {
    /// The reason, once there is one.
    async fn reason(self) -> Error {
        let mut applied = self.follow.applied();
        let mut concerned = true;
        loop {
            if concerned
                && let Err(refusal) = authorize_operator(&self.follow.world(), &self.caller)
            {
                return refusal;
            }
            let news = tokio::select! {
                () = self.shutdown.cancelled() => return stopping(),
                news = applied.recv() => news,
            };
            concerned = match news {
                Ok(applied) => concerns(&applied),
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return stopping(),
            };
        }
    }
}

/// Who may ask is said by the cluster (who was removed) and by nodes (their roles).
fn concerns(applied: &Applied) -> bool {
    let who = |changed: &Changed| matches!(changed, Changed::Cluster(..) | Changed::Node(..));
    applied.changed.iter().any(who)
}

/// The items until they end, or until `ending`, whose reason is the last one.
/// `slot` is held for as long.
pub(super) fn until<T: Send + 'static>(
    items: impl Stream<Item = Result<T>> + Send + 'static,
    ending: Ending,
    slot: OwnedSemaphorePermit,
) -> BoxStream<'static, Result<T, Status>> {
    let state = Some((items.boxed(), Box::pin(ending.reason()), slot));
    stream::unfold(state, |state| async move {
        let (mut items, mut reason, slot) = state?;
        tokio::select! {
            biased;
            reason = &mut reason => Some((Err(Status::from(reason)), None)),
            item = items.next() => match item? {
                Ok(item) => Some((Ok(item), Some((items, reason, slot)))),
                Err(error) => Some((Err(Status::from(error)), None)),
            },
        }
    })
    .boxed()
}

/// This manager ends; another one can be asked.
pub(super) fn stopping() -> Error {
    Error::unavailable("this manager is shutting down").hint("ask again, at another manager")
}

//! The gRPC face: finds the reign, checks the caller, starts the conversation.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::transport::{Peer, caller};
use skep_proto::v1::dispatch_server::Dispatch;
use skep_proto::v1::{
    Heartbeat, HeartbeatReply, LeaderMessage, LogsPublished, PublishLogsResponse, WorkerMessage,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::authorize::authorize;
use super::ending::not_leader;
use super::reign::Reign;
use super::{Dispatcher, heartbeat, logs, session};

/// Between this manager's election and its first answer to a worker.
const BEGIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Answers workers.
#[derive(Debug)]
pub struct Service(Dispatcher);

impl Service {
    pub(super) fn new(dispatcher: Dispatcher) -> Self {
        Self(dispatcher)
    }

    /// The reign, if this manager leads, and the node that calls.
    async fn admit<T>(&self, request: &Request<T>) -> Result<(Arc<Reign>, Peer, String), Status> {
        let reign = self.0.reign(BEGIN_TIMEOUT).await?;
        let (peer, addr) = authorize(&self.0.shared.follow.world(), &caller(request)?)?;
        Ok((reign, peer, addr))
    }
}

impl Dispatcher {
    /// The reign. Waits for it a little when this manager has just been elected.
    pub(super) async fn reign(&self, patience: Duration) -> Result<Arc<Reign>, Status> {
        let leadership = self.shared.leadership();
        if !leadership.is_self {
            return Err(not_leader(&leadership));
        }
        let mut reigns = self.reigns.clone();
        if let Ok(Ok(reign)) =
            tokio::time::timeout(patience, reigns.wait_for(Option::is_some)).await
            && let Some(reign) = reign.clone()
        {
            return Ok(reign);
        }
        Err(not_leader(&leadership))
    }
}

#[tonic::async_trait]
impl Dispatch for Service {
    type SessionStream = ReceiverStream<Result<LeaderMessage, Status>>;
    type HeartbeatsStream = ReceiverStream<Result<HeartbeatReply, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (reign, peer, addr) = self.admit(&request).await?;
        let (outbox, messages) = mpsc::channel(session::OUTBOX_MAX);
        tokio::spawn(session::run(
            reign,
            peer,
            addr,
            request.into_inner(),
            outbox,
        ));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<Heartbeat>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let (reign, peer, _) = self.admit(&request).await?;
        let member = reign
            .roster
            .member(&peer.node_id, self.0.shared.clock.now_ns());
        let (replies, messages) = mpsc::channel(heartbeat::REPLIES_MAX);
        tokio::spawn(heartbeat::run(reign, member, request.into_inner(), replies));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<LogsPublished>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        let (reign, peer, _) = self.admit(&request).await?;
        logs::publish(&reign, &peer.node_id, request.into_inner()).await?;
        Ok(Response::new(PublishLogsResponse {}))
    }
}

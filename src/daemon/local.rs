//! What the local socket serves: this host's own service, and the control
//! service of its manager, if it has one.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use skep_proto::v1::control_server::Control;
use skep_proto::v1::local_server::Local as LocalApi;
use skep_proto::v1::{
    EndManagerRequest, EndManagerResponse, Event, ExplainRequest, Explanation, GetRequest,
    InfoRequest, InfoResponse, InitRequest, InitResponse, IssueOperatorRequest,
    IssueOperatorResponse, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, ListRequest,
    ListResponse, LogsRequest, LogsResponse, Object, WatchRequest, WriteRequest, WriteResponse,
};
use skep_proto::{Code, Error};
use tonic::{Request, Response, Status};

use super::node::Host;

type Answer<T> = Result<Response<T>, Status>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// This host's own service.
pub struct Local(Arc<Host>);

impl Local {
    /// Over this host.
    pub fn new(host: Arc<Host>) -> Self {
        Self(host)
    }
}

#[tonic::async_trait]
impl LocalApi for Local {
    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        Ok(Response::new(self.0.info().await))
    }

    async fn init(&self, request: Request<InitRequest>) -> Answer<InitResponse> {
        let (host, request) = (self.0.clone(), request.into_inner());
        Ok(Response::new(
            whole(async move { host.init(request).await }).await?,
        ))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Answer<JoinResponse> {
        let (host, request) = (self.0.clone(), request.into_inner());
        Ok(Response::new(
            whole(async move { host.join(request).await }).await?,
        ))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Answer<LeaveResponse> {
        let (host, force) = (self.0.clone(), request.into_inner().force);
        whole(async move { host.leave(force).await }).await?;
        Ok(Response::new(LeaveResponse {}))
    }

    async fn issue_operator(
        &self,
        request: Request<IssueOperatorRequest>,
    ) -> Answer<IssueOperatorResponse> {
        Ok(Response::new(
            self.0.issue_operator(&request.into_inner()).await?,
        ))
    }
}

/// Runs a change to its end, even if whoever asked for it no longer listens.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = skep_proto::Result<T>> + Send + 'static,
) -> skep_proto::Result<T> {
    tokio::spawn(change)
        .await
        .map_err(|e| Error::internal(format!("the change was not carried out: {e}")))?
}

/// The control service of whatever manager this host has at the moment.
pub struct Gate(Arc<Host>);

impl Gate {
    /// Over this host.
    pub fn new(host: Arc<Host>) -> Self {
        Self(host)
    }
}

/// Why a host without a manager cannot answer, in Swarm's words.
pub(super) fn not_a_manager(in_a_swarm: bool) -> Error {
    if in_a_swarm {
        Error::new(
            Code::NotManager,
            "This node is not a swarm manager. Worker nodes can't be used to view or modify \
             cluster state.",
        )
        .hint("run this command on a manager, name one with --host, or promote this node there: skep node promote NODE")
    } else {
        Error::new(Code::NotManager, "This node is not a swarm manager.").hint(
            "connect this node to a swarm with skep swarm init or skep swarm join, and try again",
        )
    }
}

#[tonic::async_trait]
impl Control for Gate {
    type WatchStream = BoxStream<Event>;
    type LogsStream = BoxStream<LogsResponse>;

    async fn write(&self, request: Request<WriteRequest>) -> Answer<WriteResponse> {
        self.0.control().await?.write(request).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<Object> {
        self.0.control().await?.get(request).await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        self.0.control().await?.list(request).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let stream = self.0.control().await?.watch(request).await?;
        Ok(stream.map_into())
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<Explanation> {
        self.0.control().await?.explain(request).await
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let stream = self.0.control().await?.logs(request).await?;
        Ok(stream.map_into())
    }

    async fn end_manager(&self, request: Request<EndManagerRequest>) -> Answer<EndManagerResponse> {
        self.0.control().await?.end_manager(request).await
    }
}

/// A stream of whatever type as the one that the gate names.
trait MapInto<T> {
    fn map_into(self) -> Response<BoxStream<T>>;
}

impl<T, S> MapInto<T> for Response<S>
where
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    fn map_into(self) -> Response<BoxStream<T>> {
        self.map(|stream| stream.boxed() as BoxStream<T>)
    }
}

//! The gRPC face: lets a caller in, gives its call an end, and hands it on.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::BoxStream;
use skep_proto::objects::Identified;
use skep_proto::v1::control_server::{Control, ControlServer};
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    EndManagerRequest, EndManagerResponse, Event, ExplainRequest, Explanation, GetRequest,
    ListRequest, ListResponse, LogsRequest, LogsResponse, Object, WatchRequest, WriteRequest,
    WriteResponse,
};
use skep_proto::{Code, Error, Result};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::call::{Call, now_ns};
use super::parts::Parts;
use super::prepare::prepare;
use super::quorum::check_demotion;
use super::read::{self, View};
use super::stream::{Ending, until};
use super::watch::Watcher;
use super::{redact, resolve};
use crate::state::World;

/// Largest request, bytes; a proposal is smaller by itself.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Watches and followed logs at once on one manager.
const STREAMS_MAX: usize = 1_024;

/// The control service of one manager. Clones share everything.
#[derive(Clone)]
pub struct ControlService {
    parts: Arc<Parts>,
    streams: Arc<Semaphore>,
}

impl ControlService {
    /// A service over these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    /// Ready to be added to a listener: the cluster's, or the host's local one.
    pub fn server(&self) -> ControlServer<Self> {
        ControlServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn call<T>(&self, request: &Request<T>) -> Result<Call> {
        Call::of_operator(&self.parts.follow.world(), request)
    }

    async fn fresh(&self, call: &Call) -> Result<Arc<World>> {
        self.parts.follow.fresh_world(call.deadline).await
    }

    fn view(&self) -> View {
        let leadership = self.parts.follow.leadership();
        let leader = leadership.borrow().leader.as_ref().map(|l| l.raft_id);
        View {
            self_node_id: self.parts.node_id.clone(),
            leader,
            reachability: self.parts.members.reachability(),
        }
    }

    async fn write_checked(&self, call: Call, mut request: WriteRequest) -> Result<WriteResponse> {
        if call.forwarded {
            self.leads(call.deadline).await?;
        }
        let world = self.parts.follow.world();
        prepare(&mut request, &call, &world, &self.parts.node_id)?;
        if let Some(Verb::UpdateNode(verb)) = &request.verb {
            check_demotion(&world, verb, &self.parts.members.voters())?;
        }
        self.parts.write.write(request, call.deadline).await
    }

    /// Refuses a write that another manager passed on unless this one leads, so
    /// that it goes no further. One that was just elected is about to.
    async fn leads(&self, deadline: Instant) -> Result<()> {
        let mut leadership = self.parts.follow.leadership();
        let own = &self.parts.node_id;
        let settled = leadership.wait_for(|now| {
            now.is_self
                || now
                    .leader
                    .as_ref()
                    .is_none_or(|leader| leader.node_id != *own)
        });
        let leads = match tokio::time::timeout_at(deadline.into(), settled).await {
            Ok(Ok(now)) => now.is_self,
            Ok(Err(_)) | Err(_) => false,
        };
        if leads {
            return Ok(());
        }
        Err(Error::unavailable("this manager does not lead")
            .hint("the manager that asked finds out who does"))
    }

    async fn explain_checked(&self, call: Call, reference: &str) -> Result<Explanation> {
        let world = self.fresh(&call).await?;
        let id = service_or_task(&world, reference)?;
        let mut explanation = (self.parts.explain)(&world, &id, now_ns())?;
        let view = self.view();
        explanation
            .nodes
            .iter_mut()
            .for_each(|node| view.node(node));
        if let Some(service) = &mut explanation.service {
            redact::service(service);
        }
        Ok(explanation)
    }

    fn ending(&self, call: &Call) -> Ending {
        Ending {
            follow: self.parts.follow.clone(),
            caller: call.caller.clone(),
            shutdown: self.parts.shutdown.clone(),
        }
    }

    fn slot(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Error::new(
                Code::Exhausted,
                format!("this manager serves {STREAMS_MAX} watches and logs already"),
            )
            .hint("end some, or ask another manager")
        })
    }
}

impl std::fmt::Debug for ControlService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlService")
            .field("node_id", &self.parts.node_id)
            .finish_non_exhaustive()
    }
}

/// The full id of what `reference` means: a service, else a task.
fn service_or_task(world: &World, reference: &str) -> Result<String> {
    let not_service = match resolve::service(world, reference) {
        Ok(service) => return Ok(service.id().to_owned()),
        Err(error) => error,
    };
    if not_service.code() != Code::NotFound {
        return Err(not_service);
    }
    match resolve::task(world, reference) {
        Ok(task) => Ok(task.id().to_owned()),
        Err(error) if error.code() == Code::NotFound => Err(Error::new(
            Code::NotFound,
            format!("no such task or service: {reference}"),
        )
        .hint("skep service ls lists services, skep service ps SERVICE their tasks")),
        Err(error) => Err(error),
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type WatchStream = BoxStream<'static, Result<Event, Status>>;
    type LogsStream = BoxStream<'static, Result<LogsResponse, Status>>;

    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let call = self.call(&request)?;
        Ok(Response::new(
            self.write_checked(call, request.into_inner()).await?,
        ))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Object>, Status> {
        let call = self.call(&request)?;
        let world = self.fresh(&call).await?;
        Ok(Response::new(read::get(
            &world,
            &self.view(),
            request.get_ref(),
        )?))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let call = self.call(&request)?;
        let world = self.fresh(&call).await?;
        Ok(Response::new(read::list(
            &world,
            &self.view(),
            request.get_ref(),
        )?))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let call = self.call(&request)?;
        let watcher = Watcher::new(
            self.parts.follow.clone(),
            &self.parts.node_id,
            request.get_ref(),
        )?;
        let events = until(watcher.into_stream(), self.ending(&call), self.slot()?);
        Ok(Response::new(events))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let call = self.call(&request)?;
        let explanation = self
            .explain_checked(call, &request.get_ref().reference)
            .await?;
        Ok(Response::new(explanation))
    }

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let call = self.call(&request)?;
        let slot = self.slot()?;
        let mut asked = request.into_inner();
        // The manager that passes it on has resolved the reference.
        if !call.forwarded {
            let world = self.fresh(&call).await?;
            asked.reference = service_or_task(&world, &asked.reference)?;
        }
        let lines = self.parts.logs.logs(asked, call.forwarded).await?;
        Ok(Response::new(until(lines, self.ending(&call), slot)))
    }

    async fn end_manager(
        &self,
        request: Request<EndManagerRequest>,
    ) -> Result<Response<EndManagerResponse>, Status> {
        self.call(&request)?;
        self.parts.ender.end(request.get_ref())?;
        Ok(Response::new(EndManagerResponse {}))
    }
}

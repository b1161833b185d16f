//! A client of the control service, and of this host's daemon: finds a manager,
//! keeps every call within its deadline, and sends it again where that helps.
//!
//! Invariant: prints nothing and knows no command.

mod config;
mod endpoint;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use skep_proto::transport::Credentials;
use skep_proto::v1::control_client::ControlClient;
use skep_proto::v1::local_client::LocalClient;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    Cluster, Event, ExplainRequest, Explanation, FilterTerm, GetRequest, InfoRequest, InfoResponse,
    IssueOperatorRequest, Kind, ListRequest, LogsRequest, LogsResponse, Node, Object, Service,
    Task, WatchRequest, WriteRequest, WriteResponse, object,
};
use skep_proto::{Code, Error, Result};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

pub use config::{Bundle, Contexts, DEFAULT_CONTEXT, parse as parse_bundle, write_private};
use endpoint::Endpoint;
pub use endpoint::{DEFAULT_SOCKET, Target, with_port};

/// Largest answer that is taken, bytes: a list of many thousand tasks.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// First pause before a call is sent again; each next one is twice as long.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(25);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(400);

/// A connection to the swarm, or to this host's daemon.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    timeout: Duration,
    credentials: Option<Credentials>,
}

impl Client {
    /// Connects to the first that answers. Each call takes `timeout` at most.
    pub async fn connect(target: &Target, timeout: Duration) -> Result<Self> {
        let credentials = target.credentials()?;
        let endpoints = target.endpoints(credentials.as_ref());
        let started = Instant::now();
        let mut reason = Error::unavailable("there is no manager to connect to")
            .hint("a context needs at least one manager's address");
        for (index, endpoint) in endpoints.iter().enumerate() {
            let left = timeout.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, endpoint.probe()).await {
                Ok(Ok(())) => {
                    return Ok(Self {
                        endpoints,
                        current: AtomicUsize::new(index),
                        timeout,
                        credentials,
                    });
                }
                Ok(Err(error)) => reason = error,
                Err(_) => {
                    reason = Error::unavailable(format!("{endpoint} does not answer"));
                }
            }
        }
        Err(reason)
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether it speaks to this host's daemon, over its socket.
    pub fn is_local(&self) -> bool {
        self.endpoint().is_some_and(Endpoint::is_local)
    }

    /// An operator's credentials, to reach every manager directly: the context's,
    /// or new ones from this host's manager, good for `valid_for`.
    pub async fn credentials(&self, name: &str, valid_for: Duration) -> Result<Credentials> {
        if let Some(credentials) = &self.credentials {
            return Ok(credentials.clone());
        }
        let mut request = tonic::Request::new(IssueOperatorRequest {
            name: name.to_owned(),
            valid_for_ns: i64::try_from(valid_for.as_nanos()).unwrap_or(i64::MAX),
        });
        request.set_timeout(self.timeout);
        let mut local = self.local("an operator's certificate")?;
        let issued = local.issue_operator(request).await?.into_inner();
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, &issued.root_pem)
            .map_err(|e| Error::internal(format!("the certificate cannot be used: {e}")))
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        let index = self.current.load(Ordering::Relaxed);
        self.endpoints.get(index % self.endpoints.len().max(1))
    }

    fn channel(&self) -> Result<Channel> {
        self.endpoint()
            .map(Endpoint::channel)
            .ok_or_else(|| Error::unavailable("there is no manager to connect to"))
    }

    /// The control service, for calls that this type has no method for.
    pub fn control(&self) -> Result<ControlClient<Channel>> {
        Ok(ControlClient::new(self.channel()?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// This host's daemon; `what` is said when there is only a remote manager.
    pub fn local(&self, what: &str) -> Result<LocalClient<Channel>> {
        if !self.is_local() {
            return Err(Error::precondition(format!(
                "{what} concerns one host, and is asked of its own daemon"
            ))
            .hint("run it on that host, without --host and --context"));
        }
        Ok(LocalClient::new(self.channel()?))
    }

    /// Calls again, of the next manager if there are several, while the swarm
    /// has no leader or the connection broke, until the deadline. Only for
    /// calls that may be made twice.
    async fn persist<T, F, C>(&self, call: C) -> Result<T>
    where
        C: Fn(ControlClient<Channel>, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = call(self.control()?, left);
            let error = match tokio::time::timeout(left, attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => return Err(self.too_late()),
            };
            if !error.is_retryable() {
                return Err(error);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left <= delay {
                return Err(error.hint_or("the swarm may be without a quorum: skep info"));
            }
            self.current.fetch_add(1, Ordering::Relaxed);
            // Spread, so that many clients do not come back at once.
            let spread = rand::random::<f64>().mul_add(0.5, 0.75);
            tokio::time::sleep(delay.mul_f64(spread).min(left)).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }

    fn too_late(&self) -> Error {
        Error::new(
            Code::Timeout,
            format!("no answer within {:?}", self.timeout),
        )
        .hint("it may or may not have happened; a longer --timeout waits longer")
    }

    /// Makes one change of the swarm, exactly once however often it is sent.
    pub async fn write(&self, verb: Verb) -> Result<WriteResponse> {
        let request = WriteRequest {
            request_id: request_id(),
            verb: Some(verb),
            ..WriteRequest::default()
        };
        self.persist(|mut control, left| {
            let mut request = tonic::Request::new(request.clone());
            request.set_timeout(left);
            async move { control.write(request).await }
        })
        .await
    }

    /// One object by id, name or unique prefix.
    pub async fn get(&self, kind: Kind, reference: &str) -> Result<Object> {
        let get = GetRequest {
            kind: kind.into(),
            reference: reference.to_owned(),
        };
        self.persist(|mut control, left| {
            let mut request = tonic::Request::new(get.clone());
            request.set_timeout(left);
            async move { control.get(request).await }
        })
        .await
    }

    /// All objects of a kind that `filters` let through.
    pub async fn list(&self, kind: Kind, filters: Vec<FilterTerm>) -> Result<Vec<Object>> {
        let list = ListRequest {
            kind: kind.into(),
            filters,
        };
        let response = self
            .persist(|mut control, left| {
                let mut request = tonic::Request::new(list.clone());
                request.set_timeout(left);
                async move { control.list(request).await }
            })
            .await?;
        Ok(response.objects)
    }

    /// Why a service's tasks are, or are not, where they should be.
    pub async fn explain(&self, reference: &str) -> Result<Explanation> {
        let explain = ExplainRequest {
            reference: reference.to_owned(),
        };
        self.persist(|mut control, left| {
            let mut request = tonic::Request::new(explain.clone());
            request.set_timeout(left);
            async move { control.explain(request).await }
        })
        .await
    }

    /// What happens from now on; ends when the connection does.
    pub async fn watch(&self, watch: WatchRequest) -> Result<Streaming<Event>> {
        self.persist(|mut control, _| {
            let watch = watch.clone();
            async move { control.watch(watch).await }
        })
        .await
    }

    /// Lines of a service's or a task's containers.
    pub async fn logs(&self, logs: LogsRequest) -> Result<Streaming<LogsResponse>> {
        self.persist(|mut control, _| {
            let logs = logs.clone();
            async move { control.logs(logs).await }
        })
        .await
    }

    /// What this host's daemon says of itself.
    pub async fn info(&self) -> Result<InfoResponse> {
        let mut local = self.local("info")?;
        self.bounded(local.info(InfoRequest {})).await
    }

    /// One call that must not be made twice, within the deadline.
    pub async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Error::from(status)),
            Err(_) => Err(self.too_late()),
        }
    }

    /// A service by id, name or unique prefix.
    pub async fn service(&self, reference: &str) -> Result<Service> {
        match self.get(Kind::Service, reference).await?.object {
            Some(object::Object::Service(service)) => Ok(service),
            other => Err(unexpected("a service", other.as_ref())),
        }
    }

    /// A node by id, hostname, unique prefix, or `self`.
    pub async fn node(&self, reference: &str) -> Result<Node> {
        match self.get(Kind::Node, reference).await?.object {
            Some(object::Object::Node(node)) => Ok(node),
            other => Err(unexpected("a node", other.as_ref())),
        }
    }

    /// A task by id or unique prefix.
    pub async fn task(&self, reference: &str) -> Result<Task> {
        match self.get(Kind::Task, reference).await?.object {
            Some(object::Object::Task(task)) => Ok(task),
            other => Err(unexpected("a task", other.as_ref())),
        }
    }

    /// The swarm itself.
    pub async fn cluster(&self) -> Result<Cluster> {
        match self.get(Kind::Cluster, "default").await?.object {
            Some(object::Object::Cluster(cluster)) => Ok(cluster),
            other => Err(unexpected("the swarm", other.as_ref())),
        }
    }

    /// Services that `filters` let through.
    pub async fn services(&self, filters: Vec<FilterTerm>) -> Result<Vec<Service>> {
        let objects = self.list(Kind::Service, filters).await?;
        Ok(objects
            .into_iter()
            .filter_map(|o| match o.object {
                Some(object::Object::Service(service)) => Some(service),
                _ => None,
            })
            .collect())
    }

    /// Nodes that `filters` let through.
    pub async fn nodes(&self, filters: Vec<FilterTerm>) -> Result<Vec<Node>> {
        let objects = self.list(Kind::Node, filters).await?;
        Ok(objects
            .into_iter()
            .filter_map(|o| match o.object {
                Some(object::Object::Node(node)) => Some(node),
                _ => None,
            })
            .collect())
    }

    /// Tasks that `filters` let through.
    pub async fn tasks(&self, filters: Vec<FilterTerm>) -> Result<Vec<Task>> {
        let objects = self.list(Kind::Task, filters).await?;
        Ok(objects
            .into_iter()
            .filter_map(|o| match o.object {
                Some(object::Object::Task(task)) => Some(task),
                _ => None,
            })
            .collect())
    }
}

/// A filter that keeps objects whose `key` is `value`.
pub fn term(key: &str, value: &str) -> FilterTerm {
    FilterTerm {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn unexpected(wanted: &str, got: Option<&object::Object>) -> Error {
    let got = match got {
        Some(object::Object::Cluster(_)) => "the swarm",
        Some(object::Object::Node(_)) => "a node",
        Some(object::Object::Service(_)) => "a service",
        Some(object::Object::Task(_)) => "a task",
        None => "nothing",
    };
    Error::internal(format!("asked for {wanted}, the manager sent {got}"))
        .hint("skep version shows whether client and daemon are of the same version")
}

/// Unique, so that a retry is known as one.
fn request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A hint where there is none yet.
trait HintOr {
    fn hint_or(self, hint: &str) -> Self;
}

impl HintOr for Error {
    fn hint_or(self, hint: &str) -> Self {
        if self.hint.is_empty() {
            self.hint(hint)
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_retried_and_a_managers_word_is_not() {
        assert!(Error::from(Status::unknown("transport error")).is_retryable());
        assert!(Error::from(Status::cancelled("gone")).is_retryable());
        let said: Status = Error::internal("a bug").into();
        assert!(!Error::from(said).is_retryable());
        let said: Status = Error::unavailable("no leader").into();
        assert_eq!(Error::from(said).message, "no leader");
    }

    #[test]
    fn request_ids_differ() {
        assert_ne!(request_id(), request_id());
        assert_eq!(request_id().len(), 32);
    }
}

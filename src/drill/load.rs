//! The steady load: clients that write, and clients that read, each of them at
//! one manager and one call at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_proto::objects::Identified;
use skep_proto::v1::{
    ContainerSpec, CreateService, Kind, ListRequest, Replicated, ServiceSpec, TaskSpec,
    WriteRequest, object, service_spec::Mode, write_request::Verb,
};
use skep_proto::{Error, Result};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Manager, Options};

/// A client waits this long for an answer; a manager waits out an election.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls that are kept; far more than a round makes.
const SAMPLES_MAX: usize = 500_000;

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Created a service of no replicas.
    Write,
    /// Listed the nodes.
    Read,
}

/// One call of one client.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Number of the client.
    pub client: usize,
    /// What it did.
    pub call: Call,
    /// When it asked.
    pub started: Instant,
    /// When it was answered.
    pub ended: Instant,
    /// The service that it made, or the leader that it read; or what went wrong.
    pub result: Result<String, String>,
}

/// A client's place.
#[derive(Debug, Clone)]
pub struct Client {
    /// Hostname of the manager that it speaks to.
    pub at: String,
    /// Writing or reading.
    pub call: Call,
}

/// Running clients.
pub struct Load {
    /// By number.
    pub clients: Vec<Client>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Starts the clients at `managers`. Names of what they create begin with `prefix`.
    pub fn start(managers: &[Manager], options: &Options, prefix: &str) -> Self {
        let mut load = Self {
            clients: Vec::new(),
            samples: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for manager in managers {
            for call in [Call::Write, Call::Read] {
                for _ in 0..options.clients {
                    let number = load.clients.len();
                    load.clients.push(Client {
                        at: manager.hostname.clone(),
                        call,
                    });
                    load.tasks.spawn(client(
                        number,
                        call,
                        manager.clone(),
                        format!("{prefix}-{number}"),
                        options.pause,
                        load.samples.clone(),
                        load.stop.clone(),
                    ));
                }
            }
        }
        load.tasks.close();
        load
    }

    /// The calls so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Stops every client after the call that it is in.
    pub async fn stop(self) -> Vec<Sample> {
        self.stop.cancel();
        let _ = tokio::time::timeout(CALL_TIMEOUT, self.tasks.wait()).await;
        self.samples()
    }
}

async fn client(
    number: usize,
    call: Call,
    manager: Manager,
    prefix: String,
    pause: Duration,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: CancellationToken,
) {
    for round in 0_u64.. {
        let started = Instant::now();
        let result = match call {
            Call::Write => write(&manager, format!("{prefix}-{round}")).await,
            Call::Read => read_leader(&manager).await,
        };
        let sample = Sample {
            client: number,
            call,
            started,
            ended: Instant::now(),
            result: result.map_err(|e| e.to_string()),
        };
        {
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() >= SAMPLES_MAX {
                return;
            }
            samples.push(sample);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn write(manager: &Manager, name: String) -> Result<String> {
    let spec = ServiceSpec {
        name: name.clone(),
        task: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: "skep-drill".into(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(Mode::Replicated(Replicated { replicas: 0 })),
        ..ServiceSpec::default()
    };
    let mut request = tonic::Request::new(WriteRequest {
        request_id: name.clone(),
        verb: Some(Verb::CreateService(CreateService { spec: Some(spec) })),
        term: 0,
    });
    request.set_timeout(CALL_TIMEOUT);
    manager.control().write(request).await?;
    Ok(name)
}

/// Hostname of the node that leads, as `manager` reads it.
pub async fn read_leader(manager: &Manager) -> Result<String> {
    let mut request = tonic::Request::new(ListRequest {
        kind: Kind::Node.into(),
        filters: Vec::new(),
    });
    request.set_timeout(CALL_TIMEOUT);
    let list = manager.control().list(request).await?.into_inner();
    list.objects
        .into_iter()
        .find_map(|object| match object.object {
            Some(object::Object::Node(node)) if node.manager.as_ref().is_some_and(|m| m.leader) => {
                Some(node.id().to_owned())
            }
            _ => None,
        })
        .ok_or_else(|| Error::unavailable("no node leads"))
}

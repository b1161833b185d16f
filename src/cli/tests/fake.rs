//! A manager that holds a few objects, and does as it is told: tasks of a new
//! service come up at once, wait for a node, or fail.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Parser;
use futures_util::stream::{self, BoxStream, StreamExt};
use skep_proto::objects::Identified;
use skep_proto::v1::control_server::{Control, ControlServer};
use skep_proto::v1::local_server::{Local, LocalServer};
use skep_proto::v1::service_spec::Mode;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;
use skep_proto::{Code, Error};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::cli::rows::tests::{NOW, node};
use crate::cli::{Cli, Exit, conclude, run};
use crate::ui::Ui;

/// What becomes of the tasks of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fate {
    /// They run.
    #[default]
    Run,
    /// They have no node.
    Wait,
    /// The update is paused.
    Pause,
}

/// What it holds, and what it was asked.
#[derive(Debug, Default)]
pub struct State {
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
    pub fate: Fate,
    /// So many writes find no leader first.
    pub leaderless_writes: usize,
    /// Ids of the writes that came in.
    pub request_ids: Vec<String>,
    pub logs: Vec<LogsResponse>,
}

impl State {
    fn put(&mut self, id: &str, spec: ServiceSpec) -> Service {
        let version = self.request_ids.len() as u64;
        let service = Service {
            meta: Some(Meta {
                id: id.to_owned(),
                version,
                created_at_ns: NOW,
                ..Meta::default()
            }),
            template_version: version,
            templates: vec![Template {
                version,
                task: spec.task.clone(),
                endpoint: spec.endpoint.clone(),
            }],
            update_status: (self.fate == Fate::Pause).then(|| UpdateStatus {
                state: update_status::State::Paused.into(),
                message: "update paused due to failure or early termination of task t1".into(),
                ..UpdateStatus::default()
            }),
            spec: Some(spec),
            ..Service::default()
        };
        self.services.retain(|s| s.id() != id);
        self.tasks.retain(|t| t.service_id != id);
        let state = match self.fate {
            Fate::Wait => TaskState::Pending,
            _ => TaskState::Running,
        };
        for slot in 1..=service.replicas() {
            self.tasks.push(Task {
                meta: Some(Meta {
                    id: format!("{id}t{slot}"),
                    created_at_ns: NOW,
                    ..Meta::default()
                }),
                service_id: id.to_owned(),
                service_name: service.name().to_owned(),
                slot,
                node_id: if self.fate == Fate::Wait {
                    String::new()
                } else {
                    "n1".into()
                },
                template_version: version,
                desired: TaskState::Running.into(),
                status: Some(TaskStatus {
                    state: state.into(),
                    at_ns: NOW,
                    ..TaskStatus::default()
                }),
                verdict: (self.fate == Fate::Wait).then(|| Verdict {
                    summary: "no suitable node (1 drained)".into(),
                    ..Verdict::default()
                }),
                ..Task::default()
            });
        }
        self.services.push(service.clone());
        service
    }

    fn find(&self, reference: &str) -> Result<Service, Error> {
        self.services
            .iter()
            .find(|s| s.id() == reference || s.name() == reference)
            .cloned()
            .ok_or_else(|| Error::not_found("service", reference))
    }

    fn write(&mut self, request: WriteRequest) -> Result<Service, Error> {
        self.request_ids.push(request.request_id);
        if self.leaderless_writes > 0 {
            self.leaderless_writes -= 1;
            return Err(Error::unavailable("the swarm has no leader"));
        }
        match request.verb {
            Some(Verb::CreateService(create)) => {
                let spec = create.spec.unwrap_or_default();
                if self.find(&spec.name).is_ok() {
                    return Err(Error::new(
                        Code::Exists,
                        format!("service {} already exists", spec.name),
                    )
                    .at("name")
                    .hint("take another name"));
                }
                let id = format!("s{}", self.services.len() + 1);
                Ok(self.put(&id, spec))
            }
            Some(Verb::UpdateService(update)) => {
                let service = self.find(&update.service)?;
                if service.meta().version != update.version {
                    return Err(Error::new(Code::OutOfSequence, "update out of sequence"));
                }
                Ok(self.put(service.id(), update.spec.unwrap_or_default()))
            }
            Some(Verb::ScaleService(scale)) => {
                let service = self.find(&scale.service)?;
                let mut spec = service.spec.clone().unwrap_or_default();
                spec.mode = Some(Mode::Replicated(Replicated {
                    replicas: scale.replicas,
                }));
                Ok(self.put(service.id(), spec))
            }
            Some(Verb::RemoveService(remove)) => {
                let service = self.find(&remove.service)?;
                self.services.retain(|s| s.id() != service.id());
                Ok(service)
            }
            other => Err(Error::new(Code::Unsupported, format!("{other:?}"))),
        }
    }
}

/// A manager, and the host's daemon.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
}

impl Fake {
    fn objects(&self, list: &ListRequest) -> Vec<Object> {
        let state = self.state.lock().unwrap();
        let of = |key: &str| -> Vec<&str> {
            let terms = list.filters.iter().filter(|f| f.key == key);
            terms.map(|f| f.value.as_str()).collect()
        };
        let services = of("service");
        match list.kind() {
            Kind::Service => state.services.iter().cloned().map(Object::from).collect(),
            Kind::Task => state
                .tasks
                .iter()
                .filter(|t| services.is_empty() || services.contains(&t.service_id.as_str()))
                .cloned()
                .map(Object::from)
                .collect(),
            Kind::Node => vec![node("n1", "alpha", Some(true)).into()],
            _ => Vec::new(),
        }
    }
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Control for Fake {
    type WatchStream = Stream<Event>;
    type LogsStream = Stream<LogsResponse>;

    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let service = self.state.lock().unwrap().write(request.into_inner())?;
        Ok(Response::new(WriteResponse {
            id: service.id().to_owned(),
            object: Some(service.into()),
            ..WriteResponse::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Object>, Status> {
        let get = request.into_inner();
        let state = self.state.lock().unwrap();
        let object = match get.kind() {
            Kind::Service => state.find(&get.reference)?.into(),
            Kind::Node if ["n1", "alpha", "self"].contains(&get.reference.as_str()) => {
                node("n1", "alpha", Some(true)).into()
            }
            kind => {
                return Err(
                    Error::not_found(&format!("{kind:?}").to_lowercase(), &get.reference).into(),
                );
            }
        };
        Ok(Response::new(object))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let objects = self.objects(request.get_ref());
        Ok(Response::new(ListResponse {
            objects,
            version: 1,
        }))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let state = self.state.lock().unwrap();
        let service = state.find(&request.get_ref().reference)?;
        Ok(Response::new(Explanation {
            headline: format!("{}: 0 of {} running", service.name(), service.replicas()),
            desired: service.replicas(),
            tasks: state.tasks.clone(),
            service: Some(service),
            ..Explanation::default()
        }))
    }

    async fn logs(&self, _: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let logs = self.state.lock().unwrap().logs.clone();
        Ok(Response::new(
            stream::iter(logs.into_iter().map(Ok)).boxed(),
        ))
    }

    async fn end_manager(
        &self,
        _: Request<EndManagerRequest>,
    ) -> Result<Response<EndManagerResponse>, Status> {
        Err(Error::permission("not here").into())
    }
}

#[tonic::async_trait]
impl Local for Fake {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse {
            version: "9.9.9".into(),
            hostname: "alpha".into(),
            node_id: "n1".into(),
            manager: true,
            state: SwarmState::Active.into(),
            ..InfoResponse::default()
        }))
    }

    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse {
            node_id: "n1".into(),
            addr: "10.0.0.1:2377".into(),
            worker_token: "SWMTKN-1-digest-secret".into(),
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let join = request.into_inner();
        if join.remote_addrs != ["10.0.0.1:2377"] {
            return Err(Error::invalid("remote_addrs", format!("{:?}", join.remote_addrs)).into());
        }
        Ok(Response::new(JoinResponse {
            node_id: "n2".into(),
            role: Role::Worker.into(),
        }))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        Err(Error::precondition("this node is no part of a swarm").into())
    }

    async fn issue_operator(
        &self,
        _: Request<IssueOperatorRequest>,
    ) -> Result<Response<IssueOperatorResponse>, Status> {
        Err(Error::permission("not here").into())
    }
}

/// A fake that serves a socket of its own.
pub struct Host {
    pub fake: Fake,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl Host {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("skep.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let fake = Fake::default();
        let serve = tonic::transport::Server::builder()
            .add_service(ControlServer::new(fake.clone()))
            .add_service(LocalServer::new(fake.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(serve);
        Self {
            fake,
            socket,
            _dir: dir,
        }
    }

    /// Runs a command line against it.
    pub async fn skep(&self, line: &str) -> Said {
        let socket = self.socket.display().to_string();
        let words = ["skep", "--socket", &socket]
            .into_iter()
            .chain(line.split_whitespace());
        let (mut ui, seen) = Ui::captured(None, NOW + 60_000_000_000);
        let exit = match Cli::try_parse_from(words) {
            Ok(cli) => {
                let result = run(cli, &mut ui).await;
                conclude(&mut ui, result)
            }
            Err(error) => {
                ui.status(&error.to_string());
                Exit::Usage
            }
        };
        Said {
            exit,
            out: seen.out(),
            err: seen.err(),
        }
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.fake.state.lock().unwrap()
    }
}

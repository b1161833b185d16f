//! A leader that does as the test says: the dispatch service over mutual TLS,
//! on a runtime of its own, so that it can be killed with all its connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skep_proto::transport::{Credentials, accept};
use skep_proto::v1::dispatch_server::{Dispatch, DispatchServer};
use skep_proto::v1::leader_message::Message as Down;
use skep_proto::v1::worker_message::Message as Up;
use skep_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Answers = mpsc::Sender<Result<LeaderMessage, Status>>;

#[derive(Default)]
pub struct Seen {
    pub term: u64,
    pub leads: bool,
    pub hint: String,
    pub managers: Vec<ManagerPeer>,
    pub assignments: BTreeMap<String, Assignment>,
    pub statuses: BTreeMap<String, TaskStatus>,
    /// Every state that was reported, in order.
    pub history: Vec<(String, TaskState)>,
    pub description: Option<NodeDescription>,
    pub sessions: u64,
    pub heartbeats: u64,
    pub lines: Vec<LogLine>,
    pub log_errors: Vec<String>,
    pub logs_ended: u64,
    pub said_goodbye: bool,
    /// Batches are taken but not acknowledged.
    pub withhold_acks: bool,
    session: Option<Answers>,
}

#[derive(Clone, Default)]
pub struct Service(pub Arc<Mutex<Seen>>);

pub struct Leader {
    pub addr: String,
    pub service: Service,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Leader {
    /// Serves on `addr`; port 0: any.
    pub fn start(credentials: Credentials, addr: &str, term: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let service = Service::default();
        {
            let mut seen = service.0.lock().unwrap();
            seen.term = term;
            seen.leads = true;
        }
        let serve = service.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = addr.to_owned();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
            sender
                .send(listener.local_addr().unwrap().to_string())
                .unwrap();
            tonic::transport::Server::builder()
                .add_service(DispatchServer::new(serve))
                .serve_with_incoming(accept(listener, credentials))
                .await
                .unwrap();
        });
        Self {
            addr: receiver.recv().unwrap(),
            service,
            runtime: Some(runtime),
        }
    }

    pub fn seen<T>(&self, read: impl FnOnce(&mut Seen) -> T) -> T {
        read(&mut self.service.0.lock().unwrap())
    }

    /// The process dies: every connection is reset.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn put(&self, assignment: Assignment) {
        self.seen(|seen| {
            seen.assignments
                .insert(assignment.task_id.clone(), assignment.clone());
        });
        self.send(Down::Assignments(Assignments {
            put: vec![assignment],
            ..Assignments::default()
        }));
    }

    pub fn remove(&self, task_id: &str) {
        self.seen(|seen| seen.assignments.remove(task_id));
        self.send(Down::Assignments(Assignments {
            remove: vec![task_id.to_owned()],
            ..Assignments::default()
        }));
    }

    /// Sends when there is a session; the next one begins with everything.
    pub fn send(&self, message: Down) {
        let (term, session) = self.seen(|seen| (seen.term, seen.session.clone()));
        if let Some(session) = session {
            let message = LeaderMessage {
                term,
                message: Some(message),
            };
            let _ = session.try_send(Ok(message));
        }
    }

    pub fn state(&self, task_id: &str) -> TaskState {
        self.seen(|seen| {
            seen.statuses
                .get(task_id)
                .map_or(TaskState::New, TaskStatus::state)
        })
    }

    pub fn status(&self, task_id: &str) -> TaskStatus {
        self.seen(|seen| seen.statuses.get(task_id).cloned().unwrap_or_default())
    }

    /// Waits until `wanted` holds; panics with what is known when it does not.
    pub async fn until(&self, what: &str, wanted: impl Fn(&mut Seen) -> bool) {
        let start = Instant::now();
        while !self.seen(&wanted) {
            if start.elapsed() > Duration::from_secs(60) {
                let states = self.seen(|seen| format!("{:#?}", seen.statuses));
                panic!("{what}: not within 60 s; statuses: {states}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_state(&self, task_id: &str, state: TaskState) {
        self.until(&format!("{task_id} {state:?}"), |seen| {
            seen.statuses
                .get(task_id)
                .is_some_and(|s| s.state() == state)
        })
        .await;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    fn refuse(&self) -> Result<(), Status> {
        let seen = self.0.lock().unwrap();
        if seen.leads {
            return Ok(());
        }
        let mut status = Status::unavailable("this manager does not lead");
        if !seen.hint.is_empty() {
            status
                .metadata_mut()
                .insert("skep-leader", seen.hint.parse().unwrap());
        }
        Err(status)
    }

    fn reports(&self, reports: Vec<TaskReport>) {
        let mut seen = self.0.lock().unwrap();
        for report in reports {
            let status = report.status.unwrap_or_default();
            seen.history.push((report.task_id.clone(), status.state()));
            seen.statuses.insert(report.task_id, status);
        }
    }

    async fn converse(self, mut up: Streaming<WorkerMessage>, down: Answers) {
        let say = async |message: Down| {
            let term = self.0.lock().unwrap().term;
            let message = LeaderMessage {
                term,
                message: Some(message),
            };
            let _ = down.send(Ok(message)).await;
        };
        while let Ok(Some(message)) = up.message().await {
            match message.message {
                Some(Up::Hello(hello)) => {
                    self.reports(hello.tasks);
                    let (managers, put) = {
                        let mut seen = self.0.lock().unwrap();
                        seen.description = hello.description;
                        seen.sessions += 1;
                        seen.session = Some(down.clone());
                        let put = seen.assignments.values().cloned().collect();
                        (seen.managers.clone(), put)
                    };
                    say(Down::Welcome(Welcome {
                        heartbeat_period_ns: 100_000_000,
                        heartbeat_grace_ns: 300_000_000,
                        managers: Some(Managers { managers }),
                    }))
                    .await;
                    say(Down::Assignments(Assignments {
                        full: true,
                        put,
                        ..Assignments::default()
                    }))
                    .await;
                }
                Some(Up::Statuses(batch)) => {
                    self.reports(batch.reports);
                    if !self.0.lock().unwrap().withhold_acks {
                        say(Down::StatusAck(StatusAck {
                            sequence: batch.sequence,
                        }))
                        .await;
                    }
                }
                Some(Up::Description(description)) => {
                    self.0.lock().unwrap().description = Some(description);
                }
                Some(Up::Goodbye(_)) => {
                    self.0.lock().unwrap().said_goodbye = true;
                    break;
                }
                None => {}
            }
        }
        self.0.lock().unwrap().session = None;
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
        self.refuse()?;
        let (down, messages) = mpsc::channel(256);
        tokio::spawn(self.clone().converse(request.into_inner(), down));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<Heartbeat>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        self.refuse()?;
        let (replies, messages) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            let mut beats = request.into_inner();
            while let Ok(Some(beat)) = beats.message().await {
                let term = {
                    let mut seen = service.0.lock().unwrap();
                    seen.heartbeats += 1;
                    seen.term
                };
                let reply = HeartbeatReply {
                    sequence: beat.sequence,
                    term,
                    period_ns: 100_000_000,
                };
                if replies.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<LogsPublished>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        let mut published = request.into_inner();
        while let Some(message) = published.message().await? {
            let mut seen = self.0.lock().unwrap();
            seen.lines.extend(message.lines);
            if !message.error.is_empty() {
                seen.log_errors.push(message.error);
            }
            seen.logs_ended += u64::from(message.end);
        }
        Ok(Response::new(PublishLogsResponse {}))
    }
}

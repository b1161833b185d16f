//! One worker's session: hello, then assignments down and statuses up.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skep_proto::transport::Peer;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    Assignment, Assignments, Hello, LeaderMessage, LogUnsubscribe, NodeDescription, NodeSeen,
    Notice, Role, StatusAck, Welcome, WorkerMessage, leader_message, notice, worker_message,
};
use skep_proto::{Code, Error, Result};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::assignment::{assignment, assignments_of, managers};
use super::ending::Ending;
use super::mailbox::Due;
use super::reign::Reign;
use super::roster::{Member, Session};
use super::router::renewal_due;
use super::statuses;
use crate::state::World;

/// Messages to a worker that may wait in its stream.
pub(super) const OUTBOX_MAX: usize = 8;
/// The first message has to come by then.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A worker that takes nothing for so long loses its session.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// For the reason of an ending.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// To tell the swarm that a session began, or how a node describes itself.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How far the world may be behind its own feed, and for how long.
const WORLD_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks whether it has caught up.
const WORLD_PAUSE: Duration = Duration::from_millis(1);
/// Deltas are split beyond this size; full sets never are.
const DELTA_BYTES_MAX: usize = 1 << 20;

/// Where messages to the worker go.
pub(super) type Outbox = mpsc::Sender<std::result::Result<LeaderMessage, Status>>;

/// One session from its first message to its last.
pub(super) async fn run(
    reign: Arc<Reign>,
    peer: Peer,
    addr: String,
    mut inbound: Streaming<WorkerMessage>,
    outbox: Outbox,
) {
    let ending = tokio::select! {
        biased;
        () = reign.token.cancelled() => Ending::NotLeader,
        ending = serve(&reign, &peer, addr, &mut inbound, &outbox) => ending,
    };
    tracing::info!(node_id = peer.node_id, ?ending, "session ended");
    let last_words = async {
        if ending == Ending::Removed {
            let notice = Notice {
                kind: notice::Kind::Removed.into(),
                role: Role::Worker.into(),
            };
            let message = LeaderMessage {
                term: reign.term,
                message: Some(leader_message::Message::Notice(notice)),
            };
            let _ = outbox.send(Ok(message)).await;
        }
        if let Some(status) = ending.status(&reign.shared.leadership()) {
            let _ = outbox.send(Err(status)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, last_words).await;
}

async fn serve(
    reign: &Arc<Reign>,
    peer: &Peer,
    addr: String,
    inbound: &mut Streaming<WorkerMessage>,
    outbox: &Outbox,
) -> Ending {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await {
        Ok(Ok(Some(WorkerMessage {
            message: Some(worker_message::Message::Hello(hello)),
        }))) => hello,
        Ok(Ok(Some(_))) => {
            return Ending::Refused(Error::invalid("message", "a session begins with a hello"));
        }
        Ok(Ok(None) | Err(_)) => return Ending::Gone,
        Err(_) => {
            return Ending::Refused(Error::new(
                Code::Timeout,
                format!("no hello within {HELLO_TIMEOUT:?}"),
            ));
        }
    };
    let now_ns = reign.shared.clock.now_ns();
    let session = Arc::new(Session::new(
        reign.shared.next_serial(),
        addr,
        hello.description.clone(),
    ));
    let member = reign.roster.member(&peer.node_id, now_ns);
    match member.open(&session, now_ns) {
        None => {
            return Ending::Refused(Error::new(
                Code::Exhausted,
                "this node begins sessions too often: wait a few seconds",
            ));
        }
        Some(Some(older)) => older.end(Ending::Replaced),
        Some(None) => {}
    }
    member.touch(now_ns);
    let mut open = Open {
        reign,
        member: &member,
        session: &session,
        left: false,
    };
    let worker = Worker {
        reign,
        node_id: &peer.node_id,
        member: &member,
        session: &session,
        outbox,
    };
    let ending = tokio::select! {
        biased;
        ending = session.ended() => ending,
        ending = worker.converse(hello, inbound) => ending,
    };
    open.left = ending == Ending::Left;
    ending
}

/// Takes the session off the roster whatever ends it.
struct Open<'a> {
    reign: &'a Arc<Reign>,
    member: &'a Member,
    session: &'a Session,
    left: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let now_ns = self.reign.shared.clock.now_ns();
        self.member.close(self.session, self.left, now_ns);
        self.reign.stirred.notify_one();
        self.reign.logs.refresh_all();
    }
}

struct Worker<'a> {
    reign: &'a Arc<Reign>,
    node_id: &'a str,
    member: &'a Member,
    session: &'a Session,
    outbox: &'a Outbox,
}

impl Worker<'_> {
    async fn converse(&self, hello: Hello, inbound: &mut Streaming<WorkerMessage>) -> Ending {
        tracing::info!(
            node_id = self.node_id,
            version = hello.version,
            "session began"
        );
        let version = match self.announce(hello).await {
            Ok(version) => version,
            Err(error) => return Ending::Refused(error),
        };
        if !self.member.accept(self.session) {
            return Ending::Replaced;
        }
        self.reign.stirred.notify_one();
        self.reign.logs.refresh_all();
        let (batches, waiting) = mpsc::channel(statuses::BATCHES_MAX);
        tokio::select! {
            ending = self.write(version) => ending,
            ending = self.read(inbound, batches) => ending,
            () = statuses::pump(self.reign, self.node_id, self.session, waiting) => Ending::Gone,
        }
    }

    /// Tells the swarm what the node says of itself and of its tasks, and
    /// returns the world version that knows it.
    async fn announce(&self, hello: Hello) -> Result<u64> {
        let world = self.reign.shared.follow.world();
        let reports = statuses::admissible(&world, self.node_id, hello.tasks);
        let (ended, running) = reports.into_iter().partition(statuses::is_ended);
        statuses::report_ended(self.reign, &world, self.node_id, ended).await?;
        let (addr, description) = self.session.about();
        let verb = Verb::NodeSeen(NodeSeen {
            node_id: self.node_id.to_owned(),
            addr,
            description,
            running,
        });
        let response = self.reign.write(verb, ANNOUNCE_TIMEOUT).await?;
        Ok(response.version)
    }

    async fn read(
        &self,
        inbound: &mut Streaming<WorkerMessage>,
        batches: mpsc::Sender<skep_proto::v1::StatusBatch>,
    ) -> Ending {
        loop {
            let message = match inbound.message().await {
                Ok(Some(message)) => message.message,
                Ok(None) | Err(_) => return Ending::Gone,
            };
            self.member.touch(self.reign.shared.clock.now_ns());
            match message {
                Some(worker_message::Message::Statuses(batch)) => {
                    // A full pump makes the worker wait: we stop reading.
                    let taken = batches.send(batch).await;
                    if taken.is_err() {
                        return Ending::Gone;
                    }
                }
                Some(worker_message::Message::Description(description)) => {
                    if let Err(error) = self.describe(description).await {
                        return Ending::Refused(error);
                    }
                }
                Some(worker_message::Message::Goodbye(_)) => return Ending::Left,
                Some(worker_message::Message::Hello(_)) => {
                    return Ending::Refused(Error::invalid("message", "a session has one hello"));
                }
                // From a newer worker: nothing that we would understand.
                None => {}
            }
        }
    }

    async fn describe(&self, description: NodeDescription) -> Result<()> {
        self.session.describe(description);
        let (addr, description) = self.session.about();
        let verb = Verb::NodeSeen(NodeSeen {
            node_id: self.node_id.to_owned(),
            addr,
            description,
            running: Vec::new(),
        });
        self.reign.write(verb, ANNOUNCE_TIMEOUT).await.map(|_| ())
    }

    /// Sends what is due, for as long as the worker takes it.
    async fn write(&self, version: u64) -> Ending {
        match self.deliver(version).await {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    async fn deliver(&self, version: u64) -> std::result::Result<std::convert::Infallible, Ending> {
        let world = self.world(version).await?;
        let timing = self.reign.timing();
        let mut told_managers = managers(&world);
        self.send(leader_message::Message::Welcome(Welcome {
            heartbeat_period_ns: i64::try_from(timing.period_ns).unwrap_or(i64::MAX),
            heartbeat_grace_ns: i64::try_from(timing.grace_ns).unwrap_or(i64::MAX),
            managers: Some(told_managers.clone()),
        }))
        .await?;
        if let Some(role) = renewal_due(&world, self.node_id) {
            self.session.mailbox.renew(role);
        }
        let mut revision = self.send_full(&world).await?;
        loop {
            let due = self.session.mailbox.take().await;
            let world = self.world(due.version).await?;
            for sequence in due.acks.iter().copied() {
                self.send(leader_message::Message::StatusAck(StatusAck { sequence }))
                    .await?;
            }
            if let Some(role) = due.renew {
                self.send(leader_message::Message::Notice(Notice {
                    kind: notice::Kind::RenewCertificate.into(),
                    role: role.into(),
                }))
                .await?;
            }
            if due.managers {
                let now = managers(&world);
                if now != told_managers {
                    told_managers = now.clone();
                    self.send(leader_message::Message::Managers(now)).await?;
                }
            }
            if due.resync {
                revision = self.send_full(&world).await?;
            } else if !due.dirty.is_empty() {
                revision = self.send_delta(&world, &due, revision).await?;
            }
            for (id, subscription) in due.logs {
                self.send(match subscription {
                    Some(subscription) => leader_message::Message::Logs(subscription),
                    None => leader_message::Message::StopLogs(LogUnsubscribe { id }),
                })
                .await?;
            }
        }
    }

    async fn send_full(&self, world: &World) -> std::result::Result<u64, Ending> {
        let revision = world.version();
        self.send(leader_message::Message::Assignments(Assignments {
            full: true,
            revision,
            put: assignments_of(world, self.node_id),
            remove: Vec::new(),
        }))
        .await?;
        Ok(revision)
    }

    /// Sends the marked tasks as they are now. The worker is brought as far as
    /// the marks go; the world may be further.
    async fn send_delta(
        &self,
        world: &World,
        due: &Due,
        revision: u64,
    ) -> std::result::Result<u64, Ending> {
        let reached = due.version.max(revision);
        let mut delta = Assignments {
            revision,
            ..Assignments::default()
        };
        let mut bytes = 0;
        for task_id in &due.dirty {
            match world.task(task_id).filter(|t| t.node_id == self.node_id) {
                Some(task) => {
                    let put: Assignment = assignment(world, task);
                    bytes += put.encoded_len();
                    delta.put.push(put);
                }
                None => {
                    bytes += task_id.len();
                    delta.remove.push(task_id.clone());
                }
            }
            if bytes > DELTA_BYTES_MAX {
                bytes = 0;
                let part = std::mem::replace(
                    &mut delta,
                    Assignments {
                        revision,
                        ..Assignments::default()
                    },
                );
                self.send(leader_message::Message::Assignments(part))
                    .await?;
            }
        }
        delta.revision = reached;
        self.send(leader_message::Message::Assignments(delta))
            .await?;
        Ok(reached)
    }

    /// The newest world, which holds at least what was marked.
    async fn world(&self, version: u64) -> std::result::Result<Arc<World>, Ending> {
        let caught_up = async {
            loop {
                let world = self.reign.shared.follow.world();
                if world.version() >= version {
                    return world;
                }
                tokio::time::sleep(WORLD_PAUSE).await;
            }
        };
        tokio::time::timeout(WORLD_TIMEOUT, caught_up)
            .await
            .map_err(|_| {
                Ending::Refused(Error::unavailable(
                    "this manager's world is behind its own log",
                ))
            })
    }

    async fn send(&self, message: leader_message::Message) -> std::result::Result<(), Ending> {
        let message = LeaderMessage {
            term: self.reign.term,
            message: Some(message),
        };
        match tokio::time::timeout(SEND_TIMEOUT, self.outbox.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ending::Gone),
            Err(_) => Err(Ending::Slow),
        }
    }
}

//! One worker's session: hello, then assignments down and statuses up.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::transport::Peer;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    Hello, LeaderMessage, NodeDescription, NodeSeen, Notice, Role, WorkerMessage, leader_message,
    notice, worker_message,
};
use skep_proto::{Code, Error, Result};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::description::completed;
use super::ending::Ending;
use super::reign::Reign;
use super::roster::{Member, Session};
use super::statuses;

/// Messages to a worker that may wait in its stream.
pub(super) const OUTBOX_MAX: usize = 8;
/// The first message has to come by then.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// For the reason of an ending.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// To tell the swarm that a session began, or how a node describes itself.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);

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
        hello
            .description
            .clone()
            .map(|d| completed(&reign.shared.follow.world(), &peer.node_id, d)),
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

/// A session that goes on. What is sent is in [`super::outbound`].
pub(super) struct Worker<'a> {
    pub reign: &'a Arc<Reign>,
    pub node_id: &'a str,
    member: &'a Member,
    pub session: &'a Session,
    pub outbox: &'a Outbox,
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
        let world = self.reign.shared.follow.world();
        self.session
            .describe(completed(&world, self.node_id, description));
        let (addr, description) = self.session.about();
        let verb = Verb::NodeSeen(NodeSeen {
            node_id: self.node_id.to_owned(),
            addr,
            description,
            running: Vec::new(),
        });
        self.reign.write(verb, ANNOUNCE_TIMEOUT).await.map(|_| ())
    }
}

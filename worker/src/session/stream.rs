//! One session: how it is opened, and the conversation until it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skep_proto::v1::dispatch_client::DispatchClient;
use skep_proto::v1::leader_message::Message as Down;
use skep_proto::v1::notice::Kind;
use skep_proto::v1::worker_message::Message as Up;
use skep_proto::v1::{
    Goodbye, Hello, LeaderMessage, NodeDescription, StatusBatch, Welcome, WorkerMessage,
};
use skep_proto::{Code, Error};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::Session;
use super::dialer::Dialer;
use super::heartbeat::{Heartbeater, Target};
use super::seek::Seek;
use crate::store::Known;

/// Until a manager says whether it leads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Until a leader has told the swarm of this node.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(8);
/// Until a message is taken, or a goodbye heard.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages to the leader that may wait in the connection.
const UP_MAX: usize = 16;
/// A set of assignments may be large.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// The metadata with which a manager that does not lead names the one that does.
const LEADER_HINT: &str = "skep-leader";
/// When a leader names no period.
const HEARTBEAT_DEFAULT_NS: i64 = 500_000_000;

/// An open session: its first answer is there.
pub struct Opened {
    /// `host:port`.
    pub addr: String,
    up: mpsc::Sender<WorkerMessage>,
    down: Streaming<LeaderMessage>,
    welcome: Welcome,
    /// The leader's.
    pub term: u64,
    /// What the leader was told that this node is.
    description: NodeDescription,
}

struct Refused {
    error: Error,
    /// Where the leader is.
    hint: Option<String>,
    /// Nothing answered: the connection is not worth keeping.
    is_silent: bool,
}

impl Session {
    /// Asks managers until one of them leads.
    pub async fn open(&self, dialer: &mut Dialer, mut seek: Seek, known: &mut Known) -> Opened {
        dialer.keep(|addr| seek.knows(addr));
        let start = Instant::now();
        let mut asked = FuturesUnordered::new();
        let mut under_way = BTreeSet::new();
        for (addr, wait) in seek.first() {
            under_way.insert(addr.clone());
            asked.push(self.ask(dialer.channel(&addr), addr, wait));
        }
        if asked.is_empty() {
            self.fail("no manager is known: join a swarm, or name one");
            std::future::pending::<()>().await;
        }
        loop {
            let Some((addr, answer)) = asked.next().await else {
                // Not reached: who has answered is asked again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            under_way.remove(&addr);
            let refused = match answer {
                Ok(opened) if opened.term >= known.term => return opened,
                Ok(opened) => Box::new(Refused {
                    error: Error::unavailable(format!(
                        "manager {addr} leads in term {}, which is over: term {} is known",
                        opened.term, known.term
                    )),
                    hint: None,
                    is_silent: false,
                }),
                Err(refused) => refused,
            };
            tracing::debug!(%addr, error = %refused.error, hint = ?refused.hint, "no session here");
            self.fail(&format!("manager {addr}: {}", refused.error));
            if refused.is_silent {
                dialer.drop_connection(&addr);
            }
            self.refused(&refused.error);
            let hopeful = refused.error.code() == Code::Unavailable;
            if let Some(hint) = refused.hint
                && !under_way.contains(&hint)
                && hint != addr
                && seek.follows(&hint)
            {
                under_way.insert(hint.clone());
                asked.push(self.ask(dialer.channel(&hint), hint, Duration::ZERO));
            }
            if let Some(wait) = seek.again(&addr, hopeful, start.elapsed())
                && under_way.insert(addr.clone())
            {
                asked.push(self.ask(dialer.channel(&addr), addr, wait));
            }
        }
    }

    /// A leader that does not know this node has removed it, perhaps while it
    /// was away.
    fn refused(&self, error: &Error) {
        let node_id = self.credentials.peer().node_id;
        if error.code() == Code::Permission && error.object == format!("node {node_id}") {
            self.notice(skep_proto::v1::Notice {
                kind: Kind::Removed.into(),
                ..skep_proto::v1::Notice::default()
            });
        }
    }

    fn fail(&self, why: &str) {
        self.state.send_if_modified(|state| {
            let changed = state.error != why;
            why.clone_into(&mut state.error);
            changed
        });
    }

    async fn ask(
        &self,
        channel: Channel,
        addr: String,
        wait: Duration,
    ) -> (String, Result<Opened, Box<Refused>>) {
        tokio::time::sleep(wait).await;
        let answer = self.hello(channel, &addr).await;
        (addr, answer.map_err(Box::new))
    }

    async fn hello(&self, channel: Channel, addr: &str) -> Result<Opened, Refused> {
        let refused = |status: tonic::Status| Refused {
            hint: status
                .metadata()
                .get(LEADER_HINT)
                .and_then(|addr| addr.to_str().ok())
                .filter(|addr| !addr.is_empty())
                .map(str::to_owned),
            is_silent: false,
            error: status.into(),
        };
        let silence = || tonic::Status::unavailable("it ended the session without a word");
        let (up, messages) = mpsc::channel(UP_MAX);
        let description = self.description.borrow().clone();
        let hello = Hello {
            description: Some(description.clone()),
            tasks: self.board.all(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let _ = up
            .send(WorkerMessage {
                message: Some(Up::Hello(hello)),
            })
            .await;
        let mut client = DispatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let late = |timeout: Duration| Refused {
            error: Error::new(Code::Timeout, format!("no answer within {timeout:?}")),
            hint: None,
            is_silent: true,
        };
        let call = client.session(ReceiverStream::new(messages));
        let mut down = tokio::time::timeout(ANSWER_TIMEOUT, call)
            .await
            .map_err(|_| late(ANSWER_TIMEOUT))?
            .map_err(refused)?
            .into_inner();
        let first = tokio::time::timeout(WELCOME_TIMEOUT, down.message())
            .await
            .map_err(|_| late(WELCOME_TIMEOUT))?
            .map_err(refused)?
            .ok_or_else(|| refused(silence()))?;
        match first.message {
            Some(Down::Welcome(welcome)) => Ok(Opened {
                addr: addr.to_owned(),
                up,
                down,
                welcome,
                term: first.term,
                description,
            }),
            Some(Down::Notice(notice)) => {
                self.notice(notice);
                Err(refused(silence()))
            }
            _ => Err(refused(tonic::Status::internal(
                "its first message is no welcome",
            ))),
        }
    }

    /// Talks with the leader until there is a reason not to; that reason.
    pub async fn converse(
        &mut self,
        opened: Opened,
        known: &mut Known,
        heartbeater: &mut Heartbeater,
    ) -> String {
        let Opened {
            addr,
            up,
            mut down,
            welcome,
            term: _,
            description,
        } = opened;
        if let Some(managers) = welcome.managers
            && !managers.managers.is_empty()
        {
            known.managers = managers.managers;
        }
        self.remember(known);
        let period_ns = match welcome.heartbeat_period_ns {
            0 => HEARTBEAT_DEFAULT_NS,
            period_ns => period_ns,
        };
        heartbeater.beat(Target::new(&addr, period_ns));
        if *self.description.borrow_and_update() != description {
            self.description.mark_changed();
        }
        self.board.session();
        let mut sequence = 0;
        let mut is_complete = false;
        loop {
            tokio::select! {
                message = down.message() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return format!("manager {addr} ended the session"),
                        Err(status) => {
                            if let Some(hint) = status.metadata().get(LEADER_HINT)
                                && let Ok(hint) = hint.to_str()
                            {
                                hint.clone_into(&mut known.leader);
                            }
                            return format!("manager {addr}: {}", Error::from(status));
                        }
                    };
                    if message.term < known.term {
                        return format!("manager {addr} speaks of term {}, which is over", message.term);
                    }
                    if message.term > known.term {
                        known.term = message.term;
                        self.remember(known);
                    }
                    if let Some(message) = message.message
                        && let Err(why) = self.told(message, &addr, known, &mut is_complete).await
                    {
                        return format!("manager {addr}: {why}");
                    }
                }
                permit = statuses(&self.board, &up) => {
                    let Some(permit) = permit else {
                        return format!("manager {addr} reads no more");
                    };
                    let reports = self.board.take(sequence + 1);
                    if !reports.is_empty() {
                        sequence += 1;
                        permit.send(WorkerMessage {
                            message: Some(Up::Statuses(StatusBatch { sequence, reports })),
                        });
                    }
                }
                changed = self.description.changed() => {
                    if changed.is_err() {
                        return "the worker stops".to_owned();
                    }
                    let description = self.description.borrow_and_update().clone();
                    let message = WorkerMessage { message: Some(Up::Description(description)) };
                    if up.send_timeout(message, SEND_TIMEOUT).await.is_err() {
                        return format!("manager {addr} reads no more");
                    }
                }
                () = self.leaving.cancelled() => {
                    let goodbye = WorkerMessage { message: Some(Up::Goodbye(Goodbye {})) };
                    let heard = async {
                        if up.send(goodbye).await.is_ok() {
                            while let Ok(Some(_)) = down.message().await {}
                        }
                    };
                    let _ = tokio::time::timeout(SEND_TIMEOUT, heard).await;
                    return "this host leaves the swarm".to_owned();
                }
                why = heartbeater.lost() => return format!("manager {addr}: {why}"),
            }
        }
    }

    async fn told(
        &self,
        message: Down,
        addr: &str,
        known: &mut Known,
        is_complete: &mut bool,
    ) -> Result<(), String> {
        match message {
            Down::Assignments(change) => {
                *is_complete |= change.full;
                if !*is_complete {
                    return Err("it sent changes before it sent everything".into());
                }
                if !self.tasks.assign(change).await {
                    return Err("the worker stops".into());
                }
            }
            Down::StatusAck(ack) => self.board.acked(ack.sequence),
            Down::Managers(managers) if !managers.managers.is_empty() => {
                known.managers = managers.managers;
                self.remember(known);
            }
            Down::Notice(notice) => self.notice(notice),
            Down::Logs(subscription) => self.publishers.open(addr, subscription),
            Down::StopLogs(stop) => self.publishers.close(&stop.id),
            Down::Managers(_) | Down::Welcome(_) => {}
        }
        Ok(())
    }

    fn notice(&self, notice: skep_proto::v1::Notice) {
        match notice.kind() {
            Kind::Removed => tracing::warn!("this node was removed from the swarm"),
            Kind::RenewCertificate => tracing::info!("the leader asks for a new certificate"),
        }
        // Nobody took the last ones: it says the same again in the next session.
        let _ = self.notices.try_send(notice);
    }
}

/// Room for a batch, once there is something to say.
async fn statuses<'a>(
    board: &crate::task::Board,
    up: &'a mpsc::Sender<WorkerMessage>,
) -> Option<mpsc::Permit<'a, WorkerMessage>> {
    board.ready().await;
    up.reserve().await.ok()
}

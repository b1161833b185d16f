//! What a session sends: everything once, then what is marked for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skep_proto::Error;
use skep_proto::v1::{
    Assignments, LeaderMessage, LogUnsubscribe, Notice, StatusAck, Welcome, leader_message, notice,
};

use super::assignment::{assignment, assignments_of, managers};
use super::ending::Ending;
use super::mailbox::Due;
use super::router::renewal_due;
use super::session::Worker;
use crate::state::World;

/// A worker that takes nothing for so long loses its session.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How far the world may be behind its own feed, and for how long.
const WORLD_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks whether it has caught up.
const WORLD_PAUSE: Duration = Duration::from_millis(1);
/// Deltas are split beyond this size; full sets never are.
const DELTA_BYTES_MAX: usize = 1 << 20;

impl Worker<'_> {
    /// Sends what is due, for as long as the worker takes it.
    pub async fn write(&self, version: u64) -> Ending {
        match self.deliver(version).await {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    async fn deliver(&self, version: u64) -> Result<Infallible, Ending> {
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

    async fn send_full(&self, world: &World) -> Result<u64, Ending> {
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
    async fn send_delta(&self, world: &World, due: &Due, revision: u64) -> Result<u64, Ending> {
        let reached = due.version.max(revision);
        let mut delta = Assignments {
            revision,
            ..Assignments::default()
        };
        let mut bytes = 0;
        for task_id in &due.dirty {
            match world
                .task(task_id)
                .filter(|t| t.node_id == self.node_id && t.is_placed())
            {
                Some(task) => {
                    let put = assignment(world, task);
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
    async fn world(&self, version: u64) -> Result<Arc<World>, Ending> {
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

    async fn send(&self, message: leader_message::Message) -> Result<(), Ending> {
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

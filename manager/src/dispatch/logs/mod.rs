//! The way of log lines from the nodes that have them to whoever asks.
//!
//! The leader's [`Broker`] finds the tasks that are meant, asks their nodes for
//! lines over the sessions, takes the streams that the nodes then publish, and
//! relays them. Nothing is stored: when the reader is slow, the nodes' streams
//! are not read. A node that cannot deliver is named once, with the reason.
//! Other managers ask the leader ([`stream`]).
//!
//! Invariant: a line is relayed once, and never waits in more than a bounded
//! number of messages.

mod book;
mod broker;
mod publish;
mod stream;
mod subscription;

pub(super) use broker::Broker;
pub(super) use publish::publish;
pub use stream::LogStream;

use std::sync::Arc;

use skep_proto::v1::{LogsRequest, Task};
use skep_proto::{Error, Result};

use crate::state::World;

/// Whose lines are asked for, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dispatch) enum Target {
    Service(String),
    Task(String),
}

impl Target {
    /// What the request's reference, a full id, is the id of.
    fn resolve(world: &World, request: &LogsRequest) -> Result<Self> {
        if !request.stdout && !request.stderr {
            return Err(
                Error::invalid("stdout", "neither stdout nor stderr is asked for")
                    .hint("ask for at least one of them"),
            );
        }
        let id = request.reference.clone();
        if world.service(&id).is_some() {
            Ok(Self::Service(id))
        } else if world.task(&id).is_some() {
            Ok(Self::Task(id))
        } else {
            Err(Error::not_found("service", &id))
        }
    }

    /// The records that are meant and were placed on a node.
    fn tasks(&self, world: &World) -> Vec<Arc<Task>> {
        let placed = |task: &&Arc<Task>| !task.node_id.is_empty();
        match self {
            Self::Service(id) => world.tasks_of_service(id).filter(placed).cloned().collect(),
            Self::Task(id) => world.task(id).into_iter().filter(placed).cloned().collect(),
        }
    }

    /// Whether there may be further tasks, or further lines.
    fn goes_on(&self, world: &World) -> bool {
        match self {
            Self::Service(id) => world.service(id).is_some(),
            Self::Task(id) => world.task(id).is_some_and(|task| !task.is_terminal()),
        }
    }

    /// The service whose tasks join while the logs are followed.
    fn service_id(&self) -> Option<&str> {
        match self {
            Self::Service(id) => Some(id),
            Self::Task(_) => None,
        }
    }
}

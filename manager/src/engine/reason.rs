//! Why the engine did what it did: one value per change that an operator could
//! ask about. Written to the log and shown in transcripts.

use std::fmt;

use skep_proto::names::Words;
use skep_proto::v1::TaskState;

/// One thing that was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A task was made because its slot had none.
    Created {
        /// `web.3`
        task: String,
        /// What made it necessary.
        because: Because,
    },
    /// A task got its node.
    Placed {
        /// `web.3`
        task: String,
        /// The node's hostname, or its id where it has none.
        node: String,
    },
    /// Tasks fit on no node. One reason for all tasks of a template.
    Unplaced {
        /// The service's name.
        service: String,
        /// How many tasks wait.
        tasks: usize,
        /// The verdict on one line.
        verdict: String,
    },
    /// A prepared task may start.
    Started {
        /// `web.3`
        task: String,
    },
    /// A task is to stop.
    Stopped {
        /// `web.3`
        task: String,
        /// Why.
        because: Because,
    },
    /// A task of a node that came back stays, its replacement goes.
    Adopted {
        /// `web.3`
        task: String,
        /// The node's hostname.
        node: String,
    },
    /// A record was deleted.
    Forgotten {
        /// `web.3`
        task: String,
        /// The state it was left in.
        state: TaskState,
    },
    /// A rolling update moved on.
    Update {
        /// The service's name.
        service: String,
        /// Its status message.
        message: String,
    },
}

/// What made a task come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The service wants more tasks.
    Scale,
    /// The service wants fewer tasks.
    ScaleDown,
    /// The service is gone.
    ServiceRemoved,
    /// The task before it ended by itself, in this state.
    Ended(TaskState),
    /// Its node is silent.
    NodeDown,
    /// Its node was removed from the swarm.
    NodeGone,
    /// Its node was drained.
    NodeDrained,
    /// Its node no longer meets the service's constraints or reservations.
    NodeUnfit,
    /// A node takes part in a global service.
    NodeJoined,
    /// The service's template changed.
    Update,
    /// Another task of the slot runs.
    Superseded,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scale => "the service wants more tasks",
            Self::ScaleDown => "the service wants fewer tasks",
            Self::ServiceRemoved => "its service was removed",
            Self::Ended(state) => return write!(f, "the task before it is {}", state.word()),
            Self::NodeDown => "its node is down",
            Self::NodeGone => "its node was removed",
            Self::NodeDrained => "its node is drained",
            Self::NodeUnfit => "its node no longer meets the constraints",
            Self::NodeJoined => "its node takes part in the global service",
            Self::Update => "the service's template changed",
            Self::Superseded => "another task of its slot runs",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { task, because } => write!(f, "{task} created: {because}"),
            Self::Placed { task, node } => write!(f, "{task} placed on {node}"),
            Self::Unplaced {
                service,
                tasks,
                verdict,
            } => {
                write!(f, "{service}: {tasks} waiting: {verdict}")
            }
            Self::Started { task } => write!(f, "{task} may start"),
            Self::Stopped {
                task,
                because: Because::Ended(state),
            } => {
                write!(f, "{task} ended: {}", state.word())
            }
            Self::Stopped { task, because } => write!(f, "{task} is to stop: {because}"),
            Self::Adopted { task, node } => write!(f, "{task} stays on {node}, which came back"),
            Self::Forgotten { task, state } => write!(f, "{task} forgotten ({})", state.word()),
            Self::Update { service, message } => write!(f, "{service}: {message}"),
        }
    }
}

//! What runs containers: one trait, and two things that are it. A runtime
//! decides nothing; it does what a task's state machine asks, and says what is.

pub mod docker;
pub mod simulated;
mod template;

use std::future::Future;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use skep_proto::v1::{Assignment, EngineDescription, LogStream, PortConfig, Resources};

pub use docker::DockerRuntime;
pub use simulated::Simulated;

/// Whose containers they are: stands in their labels and in templates.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// The cluster's id.
    pub cluster_id: String,
    /// This node's id.
    pub node_id: String,
    /// This node's hostname.
    pub hostname: String,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Made, never started.
    #[default]
    Created,
    /// Its process lives (paused counts).
    Running,
    /// Its process ended.
    Exited,
}

/// What its health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// There is no health check.
    #[default]
    None,
    /// Not known yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// So many probes failed in a row that it is given up.
    Unhealthy,
}

/// A container as its engine shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The engine's id of it.
    pub id: String,
    /// From its labels.
    pub task_id: String,
    /// What it does.
    pub phase: Phase,
    /// What its health check says.
    pub health: Health,
    /// What the last failed probe printed.
    pub health_output: String,
    /// Its first process, while it runs.
    pub pid: i64,
    /// Meaningful once it exited.
    pub exit_code: i32,
    /// The kernel ran out of memory for it.
    pub oom_killed: bool,
    /// What the engine says went wrong.
    pub error: String,
    /// Published ports as the engine bound them.
    pub ports: Vec<PortConfig>,
}

/// A container in a list: enough to see whether something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The engine's id of it.
    pub id: String,
    /// From its labels.
    pub task_id: String,
    /// What it does.
    pub phase: Phase,
}

/// What an engine tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to the container of this task.
    Touched(String),
}

/// What an engine says of itself and its host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineFacts {
    /// Version, labels and plugins.
    pub engine: EngineDescription,
    /// All CPUs and memory.
    pub resources: Resources,
}

/// Why a runtime did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine cannot be asked now: what was asked may or may not be done.
    #[error("{0}")]
    Unavailable(String),
    /// The image is not on this host.
    #[error("{0}")]
    NoSuchImage(String),
    /// There is a container of that name, or the like: look again.
    #[error("{0}")]
    Conflict(String),
    /// There is no such container.
    #[error("{0}")]
    NotFound(String),
    /// Asked as it is, it will never work.
    #[error("{0}")]
    Refused(String),
}

/// What a runtime returns.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Which lines of a container.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on with what is printed from now.
    pub follow: bool,
    /// Only so many of the newest lines; `None`: all.
    pub tail: Option<u64>,
    /// Nothing older than this, Unix nanoseconds.
    pub since_ns: i64,
    /// With standard output.
    pub stdout: bool,
    /// With standard error.
    pub stderr: bool,
}

/// One line that a container printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was printed.
    pub stream: LogStream,
    /// When, Unix nanoseconds; 0 when the engine did not say.
    pub at_ns: i64,
    /// The line, with its end.
    pub data: Bytes,
}

/// Reports how far a pull is, in words.
pub type Progress = Box<dyn Fn(String) + Send + Sync>;

/// Runs containers. Every call has a deadline of its own and may be repeated.
pub trait Runtime: Send + Sync + 'static {
    /// What the engine and its host are.
    fn describe(&self) -> impl Future<Output = Result<EngineFacts>> + Send;

    /// Whether the engine answers.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;

    /// Every container of this cluster's node, whatever it does.
    fn list(&self) -> impl Future<Output = Result<Vec<Listed>>> + Send;

    /// The container of this name or id; `None` when there is none.
    fn inspect(&self, container: &str) -> impl Future<Output = Result<Option<View>>> + Send;

    /// Fetches the image of an assignment.
    fn pull(
        &self,
        assignment: &Assignment,
        progress: Progress,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes the container of an assignment under [`container_name`]; its id.
    fn create(&self, assignment: &Assignment) -> impl Future<Output = Result<String>> + Send;

    /// Starts it; fine when it runs already.
    fn start(&self, id: &str) -> impl Future<Output = Result<()>> + Send;

    /// Asks it to end, and after `grace_ns` makes it; returns once it ended.
    fn stop(&self, id: &str, grace_ns: i64) -> impl Future<Output = Result<()>> + Send;

    /// Removes it with its anonymous volumes; fine when it is gone already.
    fn remove(&self, id: &str) -> impl Future<Output = Result<()>> + Send;

    /// What happens to containers of this node from now on. Ends when the
    /// engine goes away.
    fn events(&self) -> impl Future<Output = Result<BoxStream<'static, Event>>> + Send;

    /// What a container printed.
    fn logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<Line>>>> + Send;

    /// `Docker Engine on unix:///run/docker.sock`.
    fn name(&self) -> String;
}

/// `web.3.<task id>`, or `agent.<node id>.<task id>` for a global service.
pub fn container_name(assignment: &Assignment) -> String {
    format!("{}.{}", short_name(assignment), assignment.task_id)
}

fn short_name(assignment: &Assignment) -> String {
    if assignment.slot == 0 {
        format!("{}.{}", assignment.service_name, assignment.node_id)
    } else {
        format!("{}.{}", assignment.service_name, assignment.slot)
    }
}

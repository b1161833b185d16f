//! What a worker is started with, and what it says of itself.

use std::path::PathBuf;
use std::time::Duration;

use skep_proto::transport::Credentials;

/// Where a worker's heartbeats come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heartbeats {
    /// A thread and a connection of their own, so that load never looks like
    /// death. What a host uses.
    #[default]
    OwnThread,
    /// A connection of their own on the caller's runtime: for thousands of
    /// simulated workers in one process.
    SharedRuntime,
}

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The worker's own folder; made if absent. Holds assignments (without
    /// secrets), statuses and the managers' addresses.
    pub data_dir: PathBuf,
    /// This node's id, as in its certificate.
    pub node_id: String,
    /// What the host is called in the swarm.
    pub hostname: String,
    /// `unix:///run/docker.sock`, or a path.
    pub engine_socket: String,
    /// What this node shows and trusts; exchanged under us when renewed.
    pub credentials: Credentials,
    /// Managers to try first, `host:port`. Those that a leader told of and that
    /// were remembered are tried too.
    pub managers: Vec<String>,
    /// Where heartbeats come from.
    pub heartbeats: Heartbeats,
    /// Engine operations (create, start, remove) under way at once.
    pub operations_max: usize,
    /// How often the engine is asked what it is.
    pub describe_interval: Duration,
    /// How often the engine's containers are listed and compared.
    pub reconcile_interval: Duration,
}

impl WorkerConfig {
    /// With the usual numbers for everything that has one.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        hostname: impl Into<String>,
        engine_socket: impl Into<String>,
        credentials: Credentials,
        managers: Vec<String>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id: credentials.peer().node_id,
            hostname: hostname.into(),
            engine_socket: engine_socket.into(),
            credentials,
            managers,
            heartbeats: Heartbeats::default(),
            operations_max: 16,
            describe_interval: Duration::from_secs(20),
            reconcile_interval: Duration::from_secs(15),
        }
    }
}

/// How a worker is, for `info` and health checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerStatus {
    /// `host:port` of the leader whose session is open.
    pub connected_to: Option<String>,
    /// The newest Raft term heard of.
    pub term: u64,
    /// Why there is no session, in words; empty while there is one.
    pub session_error: String,
    /// Tasks that this worker knows, ended ones included.
    pub tasks: usize,
    /// Tasks that run.
    pub tasks_running: usize,
    /// Why the engine cannot be used, in words; empty while it can.
    pub engine_error: String,
}

//! What a manager's consensus is started with.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{SnapshotPolicy, StepDownPolicy};
use skep_proto::transport::Credentials;
use skep_proto::{Error, Result};

use super::types::RaftId;

/// Entries after which the state is written down in a snapshot.
const SNAPSHOT_ENTRIES: u64 = 10_000;
/// Entries that stay in the log behind a snapshot, for followers that are a
/// little behind.
const KEPT_ENTRIES: u64 = 500;
/// Entries in one message to another manager; its bytes are bounded too.
const MESSAGE_ENTRIES_MAX: u64 = 1024;
/// Until a snapshot has to be with the other manager.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Calls that wait for Raft at once; more have to wait outside.
const CALLS_MAX: u64 = 4096;

/// When silence counts as death.
///
/// A dead process is noticed by its closed connections; these are for hosts and
/// networks that go without a word. Voters grant nothing while they have heard
/// of a leader within `election_max`, and a campaign starts a random
/// `election_min..election_max` after that: a silent leader is replaced within
/// twice `election_max` and two or three disk flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Between two signs of the leader's life.
    pub heartbeat: Duration,
    /// Least patience.
    pub election_min: Duration,
    /// Most patience.
    pub election_max: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(450),
        }
    }
}

/// One manager's consensus.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept; made if it is missing. One process at a time.
    pub dir: PathBuf,
    /// This manager's name in the Raft group if its disk does not know one yet:
    /// random, never used again after it left a group.
    pub raft_id: RaftId,
    /// Its node's id.
    pub node_id: String,
    /// `host:port` where the other managers reach it.
    pub addr: String,
    /// What it shows and trusts.
    pub credentials: Credentials,
    /// When silence counts as death.
    pub timers: Timers,
    /// Leave all other managers behind and lead alone from what this disk holds.
    /// What only others had is lost. For a swarm that lost its quorum for good.
    pub force_new_cluster: bool,
}

impl Config {
    /// With default timers, as one of whatever group the disk knows.
    pub fn new(
        dir: PathBuf,
        raft_id: RaftId,
        node_id: String,
        addr: String,
        credentials: Credentials,
    ) -> Self {
        Self {
            dir,
            raft_id,
            node_id,
            addr,
            credentials,
            timers: Timers::default(),
            force_new_cluster: false,
        }
    }

    pub(super) fn raft(&self) -> Result<openraft::Config> {
        let (heartbeat, min, max) = (
            millis(self.timers.heartbeat),
            millis(self.timers.election_min),
            millis(self.timers.election_max),
        );
        let config = openraft::Config {
            cluster_name: "skep".into(),
            heartbeat_interval: heartbeat,
            election_timeout_min: min,
            election_timeout_max: max,
            enable_pre_vote: Some(true),
            // A restarted leader has to be elected: others may have led since.
            enable_leader_restore: Some(false),
            // A leader that lost its quorum falls silent now and then, so that
            // whoever still hears it can elect one that has a quorum.
            quorum_loss_probe_interval: Some(2 * max),
            removed_leader_step_down: StepDownPolicy::After(2 * heartbeat),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            purge_batch_size: 64,
            replication_lag_threshold: 2 * SNAPSHOT_ENTRIES,
            install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
            max_payload_entries: MESSAGE_ENTRIES_MAX,
            // The others' disks flush an entry while ours does.
            broadcast_submitted_on_append: Some(true),
            api_channel_size: Some(CALLS_MAX),
            notification_channel_size: Some(CALLS_MAX),
            state_machine_channel_size: Some(CALLS_MAX),
            backoff: "20ms 50ms 100ms ...500ms".into(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| {
            Error::invalid(
                "timers",
                format!("these timers do not fit together: {error}"),
            )
            .hint("heartbeat < election_min < election_max")
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

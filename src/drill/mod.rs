//! `skep drill failover`: ends the leader under a steady load of writes and
//! reads through every surviving manager, and measures what each client felt.
//!
//! A client of the control service like any other: it knows no manager's inside.

mod check;
mod load;
mod report;
mod round;
mod timeline;

use std::time::Duration;

use skep_proto::v1::control_client::ControlClient;
use tonic::transport::Channel;

pub use check::{Survivors, plan};
pub use report::{Report, json, summary, text};
pub use round::run;

/// How the leader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its process aborts.
    Kill,
    /// It is told to stop, and may hand over first.
    Stop,
    /// Its packets are dropped; nobody is told.
    Cut,
}

impl Mode {
    /// `killed`, `stopped`, `cut off`: what was done to the leader.
    pub fn done(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Cut => "cut off",
        }
    }
}

/// What a drill does.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the leader ends.
    pub mode: Mode,
    /// Times it is done, each time to whoever leads then.
    pub rounds: u32,
    /// How long a cut lasts: longer than an election, shorter than the silence
    /// after which the tasks of a node are started elsewhere.
    pub cut_for: Duration,
    /// Clients of each kind (writing, reading) at each surviving manager.
    pub clients: usize,
    /// Pause of a client between two calls.
    pub pause: Duration,
    /// Load before the leader ends, and after all clients are served again.
    pub settle: Duration,
    /// Until the swarm serves again, and until the ended manager is back.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Kill,
            rounds: 1,
            cut_for: Duration::from_millis(2500),
            clients: 2,
            pause: Duration::from_millis(4),
            settle: Duration::from_millis(500),
            patience: Duration::from_secs(60),
        }
    }
}

/// A manager that the drill speaks to directly.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Its node's id.
    pub node_id: String,
    /// What people call it.
    pub hostname: String,
    /// `host:port`
    pub addr: String,
    /// A connection as an operator.
    pub channel: Channel,
}

impl Manager {
    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }
}

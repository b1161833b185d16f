//! Says that this host lives, from a thread and over a connection of its own:
//! neither a busy runtime nor a full stream may look like death. It also hears
//! first when the leader is silent.

use std::time::Duration;

use skep_proto::transport::{Credentials, Trust, dial};
use skep_proto::v1::Heartbeat;
use skep_proto::v1::dispatch_client::DispatchClient;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::dialer;
use crate::config::Heartbeats;

/// A leader that answers nothing for so many periods is silent…
const SILENT_PERIODS: u32 = 3;
/// …but never sooner than this.
const SILENT_MIN: Duration = Duration::from_millis(1500);
/// A beat's period, whatever a manager says.
const PERIOD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// Whom to beat to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    addr: String,
    period: Duration,
    session: u64,
}

impl Target {
    /// The manager at `addr`, every `period_ns`.
    pub fn new(addr: &str, period_ns: i64) -> Self {
        Self {
            addr: addr.to_owned(),
            period: period(period_ns),
            session: 0,
        }
    }
}

fn period(period_ns: i64) -> Duration {
    Duration::from_nanos(period_ns.max(0).unsigned_abs()).clamp(PERIOD.0, PERIOD.1)
}

/// Beats to one manager at a time. Ends when it is dropped.
#[derive(Debug)]
pub struct Heartbeater {
    target: watch::Sender<Option<Target>>,
    lost: watch::Receiver<Option<(u64, String)>>,
    session: u64,
    task: Option<AbortHandle>,
}

impl Drop for Heartbeater {
    fn drop(&mut self) {
        // The thread ends by itself when its sender is gone.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Heartbeater {
    /// Starts it, resting.
    pub fn start(mode: Heartbeats, credentials: Credentials) -> Self {
        let (target, targets) = watch::channel(None);
        let (lost_sender, lost) = watch::channel(None);
        let run = run(credentials, targets, lost_sender);
        let mut task = None;
        match mode {
            Heartbeats::SharedRuntime => task = Some(tokio::spawn(run).abort_handle()),
            Heartbeats::OwnThread => {
                let spawned =
                    std::thread::Builder::new()
                        .name("heartbeats".into())
                        .spawn(move || {
                            match tokio::runtime::Builder::new_current_thread()
                                .enable_all()
                                .build()
                            {
                                Ok(runtime) => runtime.block_on(run),
                                Err(error) => tracing::error!(%error, "no runtime for heartbeats"),
                            }
                        });
                if let Err(error) = spawned {
                    tracing::error!(%error, "no thread for heartbeats");
                }
            }
        }
        Self {
            target,
            lost,
            session: 0,
            task,
        }
    }

    /// Beats to this manager from now on.
    pub fn beat(&mut self, target: Target) {
        self.session += 1;
        self.target.send_replace(Some(Target {
            session: self.session,
            ..target
        }));
    }

    /// Beats to nobody.
    pub fn rest(&mut self) {
        self.target.send_replace(None);
    }

    /// Waits until the manager does not take beats; why.
    pub async fn lost(&mut self) -> String {
        loop {
            if let Some((session, why)) = self.lost.borrow_and_update().clone()
                && session == self.session
            {
                return why;
            }
            if self.lost.changed().await.is_err() {
                return "heartbeats ended".to_owned();
            }
        }
    }
}

async fn run(
    credentials: Credentials,
    mut targets: watch::Receiver<Option<Target>>,
    lost: watch::Sender<Option<(u64, String)>>,
) {
    loop {
        let target = targets.borrow_and_update().clone();
        let Some(target) = target else {
            if targets.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            why = beat(&credentials, &target) => {
                lost.send_replace(Some((target.session, why)));
                // The session ends, and another target follows.
                if targets.changed().await.is_err() {
                    return;
                }
            }
            changed = targets.changed() => if changed.is_err() { return },
        }
    }
}

/// Beats until the manager does not take them; why. A connection that breaks
/// once is made again: that alone is no reason to look for another leader.
async fn beat(credentials: &Credentials, target: &Target) -> String {
    let mut sequence = 0;
    let mut failures = 0;
    loop {
        let before = sequence;
        let error = beat_once(credentials, target, &mut sequence).await;
        failures = if sequence > before + 2 {
            1
        } else {
            failures + 1
        };
        if failures >= 2 {
            return error;
        }
        tracing::debug!(%error, "heartbeats interrupted");
    }
}

async fn beat_once(credentials: &Credentials, target: &Target, sequence: &mut u64) -> String {
    let trust = Trust::Credentials(credentials.clone());
    let channel = match dial(&target.addr, &trust, &dialer::options()).await {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let (beats, stream) = mpsc::channel(4);
    // The manager may answer the call only after the first beat.
    *sequence += 1;
    let _ = beats.try_send(Heartbeat {
        sequence: *sequence,
    });
    let silent = (target.period * SILENT_PERIODS).max(SILENT_MIN);
    let mut client = DispatchClient::new(channel);
    let call = client.heartbeats(ReceiverStream::new(stream));
    let mut replies = match tokio::time::timeout(silent, call).await {
        Ok(Ok(replies)) => replies.into_inner(),
        Ok(Err(status)) => return skep_proto::Error::from(status).to_string(),
        Err(_) => return format!("heartbeats unanswered for {silent:?}"),
    };
    let mut every = target.period;
    let mut ticks = ticker(every);
    let mut last = Instant::now();
    loop {
        let silent = (every * SILENT_PERIODS).max(SILENT_MIN);
        tokio::select! {
            reply = replies.message() => match reply {
                Ok(Some(reply)) => {
                    last = Instant::now();
                    if reply.period_ns > 0 && period(reply.period_ns) != every {
                        every = period(reply.period_ns);
                        ticks = ticker(every);
                    }
                }
                Ok(None) => return "heartbeats ended by the manager".to_owned(),
                Err(status) => return skep_proto::Error::from(status).to_string(),
            },
            _ = ticks.tick() => {
                *sequence += 1;
                if let Err(mpsc::error::TrySendError::Closed(_)) =
                    beats.try_send(Heartbeat { sequence: *sequence })
                {
                    return "heartbeats ended by the manager".to_owned();
                }
            }
            () = tokio::time::sleep_until(last + silent) => {
                return format!("heartbeats unanswered for {silent:?}");
            }
        }
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

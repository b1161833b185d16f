//! Waits until a service is as it should be, and shows how it comes along.

mod view;

use std::time::Duration;

use skep_proto::v1::{Event, Service, UpdateStatus, WatchRequest, update_status::State};
use skep_proto::{Code, Error, Result};
use tokio::time::Instant;
use tonic::Streaming;

use super::{CommandError, CommandResult, Exit, parse};
use crate::client::{Client, term};
use crate::ui::{Progress, Ui};
use view::View;

/// Longest time between two looks; an event asks for one sooner.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Shortest time between two looks, however many events there are.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How long tasks may all the while have no node before waiting is given up.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long tasks are watched after the last has started, unless the spec says.
const MONITOR_NS: i64 = 5_000_000_000;

/// Whether, how long and how loudly to wait.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Waiting {
    /// Return at once, do not wait until the tasks run
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", hide_default_value = true,
          hide_possible_values = true, action = clap::ArgAction::Set)]
    detach: bool,
    /// Wait without showing how it comes along
    #[arg(long, short)]
    quiet: bool,
    /// Give up waiting after this long without progress; 0 waits for ever
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse::duration)]
    converge_timeout: i64,
    #[arg(skip)]
    goal: Goal,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Goal {
    /// Tasks of the newest template; one that was taken back has failed.
    #[default]
    Update,
    /// The template of before.
    Rollback,
    /// So many tasks, of whatever template: an update may be under way, or paused.
    Scale,
}

impl Waiting {
    /// For a rollback that was asked for.
    #[must_use]
    pub fn for_rollback(mut self) -> Self {
        self.goal = Goal::Rollback;
        self
    }

    /// For a number of replicas that was asked for.
    #[must_use]
    pub fn for_scale(mut self) -> Self {
        self.goal = Goal::Scale;
        self
    }

    fn patience(&self) -> Option<Duration> {
        let ns = u64::try_from(self.converge_timeout).unwrap_or(0);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }
}

/// Waits for the service with this id, unless told not to.
pub async fn converge(ui: &mut Ui, client: &Client, id: &str, waiting: &Waiting) -> CommandResult {
    if waiting.detach {
        return Ok(());
    }
    let mut progress = ui.progress(waiting.quiet);
    let result = tokio::select! {
        result = follow(&mut progress, client, id, waiting) => result,
        _ = tokio::signal::ctrl_c() => Err(CommandError::said(Exit::NotConverged)),
    };
    progress.end();
    if let Err(CommandError {
        exit: Exit::NotConverged,
        error: None,
    }) = &result
    {
        ui.status("Operation continuing in background.");
        ui.status(&format!("Use `skep service ps {id}` to check progress."));
    }
    result
}

/// What one wait remembers from look to look.
struct Wait {
    stable_since: Option<Instant>,
    blocked_since: Option<Instant>,
    progress_at: Instant,
    most_running: u64,
}

async fn follow(
    progress: &mut Progress<'_>,
    client: &Client,
    id: &str,
    waiting: &Waiting,
) -> CommandResult {
    let mut events = client
        .watch(WatchRequest {
            filters: vec![term("service", id)],
            tasks: true,
        })
        .await
        .ok();
    let mut wait = Wait {
        stable_since: None,
        blocked_since: None,
        progress_at: Instant::now(),
        most_running: 0,
    };
    loop {
        let (service, view) = look(client, id, waiting.goal).await?;
        view.show(progress);
        if let Some(result) = wait.judge(progress, &service, &view, waiting) {
            return explained(client, &service, result).await;
        }
        pause(&mut events).await;
    }
}

async fn look(client: &Client, id: &str, goal: Goal) -> Result<(Service, View)> {
    let service = client.service(id);
    let tasks = client.tasks(vec![term("service", id)]);
    let nodes = client.nodes(Vec::new());
    let (service, tasks, nodes) =
        tokio::try_join!(service, tasks, nodes).map_err(|error| match error.code() {
            Code::NotFound => error.hint("it was removed while its tasks were waited for"),
            _ => error,
        })?;
    let view = View::new(&service, &tasks, &nodes, goal == Goal::Scale);
    Ok((service, view))
}

/// Until something happens, or it is time to look anyway.
async fn pause(events: &mut Option<Streaming<Event>>) {
    tokio::time::sleep(LOOK_INTERVAL_MIN).await;
    let Some(stream) = events else {
        tokio::time::sleep(LOOK_INTERVAL - LOOK_INTERVAL_MIN).await;
        return;
    };
    match tokio::time::timeout(LOOK_INTERVAL, stream.message()).await {
        Err(_) | Ok(Ok(Some(_))) => {}
        // Looking goes on without.
        Ok(Ok(None) | Err(_)) => *events = None,
    }
}

impl Wait {
    /// `None` while there is something to wait for.
    fn judge(
        &mut self,
        progress: &mut Progress<'_>,
        service: &Service,
        view: &View,
        waiting: &Waiting,
    ) -> Option<CommandResult> {
        let name = service.name();
        let status = service.update_status.as_ref();
        if waiting.goal != Goal::Scale
            && let Some(error) = paused(name, status)
        {
            return Some(Err(CommandError::new(Exit::NotConverged, error)));
        }
        let now = Instant::now();
        if view.is_converged() {
            let since = *self.stable_since.get_or_insert(now);
            let monitor = monitor(service, view);
            let stable = now.saturating_duration_since(since);
            if stable >= monitor {
                progress.footer(&format!("verify: Service {name} converged"));
                return Some(rolled_back(name, status, waiting));
            }
            // A line per second would be noise in a log.
            let left = match progress.is_live() {
                true => (monitor - stable).as_secs() + 1,
                false => monitor.as_secs().max(1),
            };
            progress.footer(&format!(
                "verify: Waiting {left} seconds to verify that tasks are stable..."
            ));
            return None;
        }
        if self.stable_since.take().is_some() {
            progress.footer("verify: Detected task failure");
        }
        if view.running() > self.most_running {
            self.most_running = view.running();
            self.progress_at = now;
        }
        if view.is_blocked() {
            let since = *self.blocked_since.get_or_insert(now);
            let patience = waiting.patience().unwrap_or(PLACEMENT_PATIENCE);
            if now.saturating_duration_since(since) >= PLACEMENT_PATIENCE.min(patience) {
                return Some(Err(CommandError::new(
                    Exit::NotPlaced,
                    view.not_placed(name),
                )));
            }
        } else {
            self.blocked_since = None;
        }
        match waiting.patience() {
            Some(patience) if now.saturating_duration_since(self.progress_at) >= patience => {
                Some(Err(CommandError::new(
                    Exit::NotConverged,
                    view.too_slow(name, patience),
                )))
            }
            _ => None,
        }
    }
}

fn monitor(service: &Service, view: &View) -> Duration {
    if view.is_empty() {
        return Duration::ZERO;
    }
    let spec = service.spec.as_ref();
    let config = spec.and_then(|s| {
        if view.is_rollback() {
            s.rollback
        } else {
            s.update
        }
    });
    let ns = config
        .and_then(|c| c.monitor_ns)
        .filter(|ns| *ns > 0)
        .unwrap_or(MONITOR_NS);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

fn paused(name: &str, status: Option<&UpdateStatus>) -> Option<Error> {
    let status = status?;
    let what = match status.state() {
        State::Paused => "update",
        State::RollbackPaused => "rollback",
        _ => return None,
    };
    Some(
        Error::precondition(format!("service {what} paused: {}", status.message)).hint(format!(
            "skep service ps {name} shows the failed tasks; \
             then update it again, or skep service rollback {name}"
        )),
    )
}

/// An update that was taken back did not do what was asked for.
fn rolled_back(name: &str, status: Option<&UpdateStatus>, waiting: &Waiting) -> CommandResult {
    match status {
        Some(status)
            if waiting.goal == Goal::Update
                && matches!(
                    status.state(),
                    State::RollbackStarted | State::RollbackCompleted
                ) =>
        {
            Err(CommandError::new(
                Exit::NotConverged,
                Error::precondition(format!(
                    "service {name} was rolled back: {}",
                    status.message
                ))
                .hint(format!(
                    "skep service ps {name} shows why the new tasks failed"
                )),
            ))
        }
        _ => Ok(()),
    }
}

/// What the swarm itself says of tasks that have no node is added.
async fn explained(client: &Client, service: &Service, result: CommandResult) -> CommandResult {
    match result {
        Err(CommandError {
            exit: Exit::NotPlaced,
            error: Some(mut error),
        }) => {
            if let Ok(explanation) = client.explain(service.name()).await
                && let Some(note) = explanation.notes.first()
                && !error.message.contains(note.as_str())
            {
                error.message = format!("{}; {note}", error.message);
            }
            Err(CommandError::new(Exit::NotPlaced, error))
        }
        other => other,
    }
}

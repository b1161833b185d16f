//! Rolling updates: a new template reaches the slots a few at a time. What is
//! under way is read off the tasks; the service's update status holds when it
//! began and what its failure action is judged by.

use skep_proto::objects::Identified;
use skep_proto::v1::{
    FailureAction, RestartHistory, Service, ServiceSpec, Task, TaskState, Template, UpdateConfig,
    UpdateOrder, UpdateStatus, update_status::State,
};

use super::dirty::Wake;
use super::draft::Draft;
use super::slot::{NewTask, records};
use super::{Because, Engine, Reason};
use crate::state::service::replaces_tasks;
use crate::state::{Nanos, SlotKey};

/// How long a new task is watched after it began to run.
pub const MONITOR_NS_DEFAULT: Nanos = 5_000_000_000;

/// When the update that is under way began.
pub(super) fn began(service: &Service) -> Option<Nanos> {
    let status = service.update_status.as_ref()?;
    matches!(status.state(), State::Updating | State::RollbackStarted)
        .then_some(status.started_at_ns)
}

/// The update waits for its operator.
pub(super) fn is_paused(service: &Service) -> bool {
    let state = service.update_status.as_ref().map(UpdateStatus::state);
    matches!(state, Some(State::Paused | State::RollbackPaused))
}

/// The template that follows `task` in its slot: while an update is paused a
/// task that ends is followed by one like itself, not by what failed elsewhere.
pub(super) fn template_for_restart(service: &Service, task: &Task) -> u64 {
    if is_paused(service) && service.template(task.template_version).is_some() {
        task.template_version
    } else {
        service.template_version
    }
}

/// The settings of the update or rollback that is under way.
fn config(service: &Service) -> UpdateConfig {
    let state = service.update_status.as_ref().map(UpdateStatus::state);
    let back = matches!(state, Some(State::RollbackStarted | State::RollbackPaused));
    let spec = service.spec.as_ref();
    let config = spec.and_then(|s| if back { s.rollback } else { s.update });
    config.unwrap_or(UpdateConfig {
        parallelism: 1,
        ..UpdateConfig::default()
    })
}

fn monitor_ns(config: &UpdateConfig) -> Nanos {
    let monitor = config
        .monitor_ns
        .filter(|ns| *ns > 0)
        .unwrap_or(MONITOR_NS_DEFAULT);
    if config.delay_ns >= monitor {
        config.delay_ns.saturating_add(1_000_000_000)
    } else {
        monitor
    }
}

impl Engine {
    /// Counts a task that ended by itself against the update that made it.
    pub(super) fn count_failure(
        &mut self,
        draft: &mut Draft,
        service: &Service,
        task: &Task,
        ran_since: Option<Nanos>,
    ) {
        let Some(began) = began(service) else { return };
        let made_by_it =
            task.template_version == service.template_version && task.meta().created_at_ns >= began;
        let monitor = config(service)
            .monitor_ns
            .filter(|ns| *ns > 0)
            .unwrap_or(MONITOR_NS_DEFAULT);
        let soon = ran_since.is_none_or(|since| draft.now.saturating_sub(since) <= monitor);
        if !made_by_it || !soon || task.state() == TaskState::Shutdown {
            return;
        }
        let mut service = service.clone();
        if let Some(status) = &mut service.update_status {
            status.failures = status.failures.saturating_add(1);
            status.failed_task = task.id().to_owned();
        }
        let applied = draft.put_service(service);
        self.observe(&applied);
    }

    /// Takes the update of a service as far as it may go now.
    pub(super) fn update(&mut self, draft: &mut Draft, service: &Service) {
        let Some(fleet) = self.fleets.get(service.id()) else {
            return;
        };
        let behind = fleet.outdated.len() + fleet.unreachable.len();
        let status = service.update_status.clone().unwrap_or_default();
        match service.update_status.as_ref().map(UpdateStatus::state) {
            Some(State::Paused | State::RollbackPaused) => return,
            Some(State::Updating | State::RollbackStarted) if status.slots == 0 && behind > 0 => {
                let slots = u64::try_from(behind).unwrap_or(u64::MAX);
                self.set_status(draft, service, UpdateStatus { slots, ..status });
                return;
            }
            Some(State::Updating | State::RollbackStarted) => {}
            None | Some(State::Completed | State::RollbackCompleted) => {
                if behind > 0 {
                    self.set_status(
                        draft,
                        service,
                        UpdateStatus {
                            state: State::Updating.into(),
                            started_at_ns: draft.now,
                            message: "update in progress".to_owned(),
                            slots: u64::try_from(behind).unwrap_or(u64::MAX),
                            ..UpdateStatus::default()
                        },
                    );
                }
                return;
            }
        }
        let config = config(service);
        if self.fail(draft, service, &config, &status) {
            return;
        }
        let Some(fleet) = self.fleets.get(service.id()) else {
            return;
        };
        let resting_since = draft.now.saturating_sub(config.delay_ns.max(0));
        let resting = if config.delay_ns > 0 {
            let first = SlotKey {
                service_id: String::new(),
                slot: 0,
                node_id: String::new(),
            };
            fleet
                .done
                .range((resting_since.saturating_add(1), first)..)
                .map(|(at, _)| *at)
                .collect()
        } else {
            Vec::new()
        };
        let busy = fleet.in_flight.len() + resting.len();
        let room = match usize::try_from(config.parallelism) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(parallelism) => parallelism.saturating_sub(busy),
        };
        let next: Vec<SlotKey> = fleet.outdated.iter().take(room).cloned().collect();
        if !next.is_empty() {
            for key in next {
                if draft.is_full() {
                    self.dirty.services.insert(service.id().to_owned());
                    return;
                }
                self.renew(draft, service, &key, config.order());
            }
            return;
        }
        if !fleet.outdated.is_empty() {
            if let Some(at) = resting.first() {
                let due = at.saturating_add(config.delay_ns);
                self.dirty.wake(due, Wake::Service(service.id().to_owned()));
            }
            return;
        }
        if !fleet.in_flight.is_empty() || !fleet.unreachable.is_empty() {
            return;
        }
        let last = fleet.done.last().map(|(at, _)| *at);
        let watched_until = last.map_or(draft.now, |at| at.saturating_add(monitor_ns(&config)));
        if watched_until > draft.now {
            self.dirty
                .wake(watched_until, Wake::Service(service.id().to_owned()));
            return;
        }
        let (state, message) = match status.state() {
            State::RollbackStarted => (State::RollbackCompleted, "rollback completed"),
            _ => (State::Completed, "update completed"),
        };
        self.set_status(
            draft,
            service,
            UpdateStatus {
                state: state.into(),
                completed_at_ns: draft.now,
                message: message.to_owned(),
                ..status
            },
        );
    }

    /// Replaces what is in a slot by a task of the newest template.
    fn renew(&mut self, draft: &mut Draft, service: &Service, key: &SlotKey, order: UpdateOrder) {
        let live: Vec<_> = records(&draft.world, key)
            .into_iter()
            .filter(|t| t.is_live())
            .collect();
        let start_first = order == UpdateOrder::StartFirst
            && live.iter().any(|t| t.state() == TaskState::Running);
        if !start_first {
            for task in &live {
                self.stop(draft, task, TaskState::Shutdown, Because::Update);
            }
        }
        let desired = if start_first {
            TaskState::Running
        } else {
            TaskState::Ready
        };
        self.create(
            draft,
            service,
            key,
            NewTask {
                template: service.template_version,
                desired,
                start_at_ns: 0,
                restarts: RestartHistory::default(),
                because: Because::Update,
            },
        );
    }

    /// Does what the service wants done when too many new tasks fail. Says
    /// whether it came to that.
    fn fail(
        &mut self,
        draft: &mut Draft,
        service: &Service,
        config: &UpdateConfig,
        status: &UpdateStatus,
    ) -> bool {
        let action = config.failure_action();
        #[allow(clippy::cast_precision_loss)]
        let ratio = status.failures as f64 / status.slots.max(1) as f64;
        if status.failures == 0
            || action == FailureAction::Continue
            || ratio <= config.max_failure_ratio
        {
            return false;
        }
        let task = &status.failed_task;
        let back = status.state() == State::RollbackStarted;
        let (state, what) = match (back, action, &service.previous_spec) {
            (true, _, _) => (State::RollbackPaused, "rollback paused"),
            (false, FailureAction::Rollback, Some(previous)) => {
                let previous = previous.clone();
                self.roll_back(draft, service, previous, task);
                return true;
            }
            (false, _, _) => (State::Paused, "update paused"),
        };
        self.set_status(
            draft,
            service,
            UpdateStatus {
                state: state.into(),
                message: format!("{what} due to failure or early termination of task {task}"),
                ..status.clone()
            },
        );
        true
    }

    fn roll_back(&mut self, draft: &mut Draft, service: &Service, spec: ServiceSpec, task: &str) {
        let mut service = service.clone();
        // A template that tasks still have is taken up again: they stay.
        let fits = |t: &&Template| {
            let (old, new) = (
                (t.task.as_ref(), t.endpoint.as_ref()),
                (spec.task.as_ref(), spec.endpoint.as_ref()),
            );
            !replaces_tasks(old, new)
        };
        let version = service
            .templates
            .iter()
            .rfind(fits)
            .map_or(draft.version, |t| t.version);
        service.template_version = version;
        service.templates.retain(|t| t.version != version);
        service.templates.push(Template {
            version,
            task: spec.task.clone(),
            endpoint: spec.endpoint.clone(),
        });
        service.spec = Some(spec);
        service.previous_spec = None;
        let status = UpdateStatus {
            state: State::RollbackStarted.into(),
            started_at_ns: draft.now,
            message: format!(
                "update rolled back due to failure or early termination of task {task}"
            ),
            ..UpdateStatus::default()
        };
        self.set_status(draft, &service, status);
    }

    fn set_status(&mut self, draft: &mut Draft, service: &Service, status: UpdateStatus) {
        let before = draft
            .service(service.id())
            .and_then(|s| s.update_status.clone());
        let said = |s: &UpdateStatus| (s.state, s.message.clone());
        if before.as_ref().map(said) != Some(said(&status)) {
            draft.reasons.push(Reason::Update {
                service: service.name().to_owned(),
                message: status.message.clone(),
            });
        }
        let mut service = service.clone();
        service.update_status = Some(status);
        let applied = draft.put_service(service);
        self.observe(&applied);
    }
}

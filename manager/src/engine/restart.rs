//! What follows when a task ends, or its node is lost to it: the task is given
//! up and, where the restart policy allows, another one takes its slot. The new
//! one is prepared during the delay and starts when the time has come and the
//! old one has stopped.

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Node, NodeState, RestartCondition, RestartHistory, RestartPolicy, Service, Task,
    TaskPatch, TaskState, TaskStatus,
};

use super::dirty::Wake;
use super::draft::Draft;
use super::orchestrate::takes_part;
use super::schedule::filter::Wants;
use super::slot::{NewTask, ended_by_itself, is_outdated, records};
use super::{Because, Engine, Reason, update};
use crate::state::{Nanos, SlotKey};

/// Between the end of a task and the start of the next one, unless said otherwise.
pub const DELAY_NS_DEFAULT: Nanos = 5_000_000_000;

/// A task that does not stop holds up its successor for so long.
pub const STOP_WAIT_NS_MAX: Nanos = 60_000_000_000;

/// The policy that tasks of a service are under now, whatever their template.
pub(super) fn policy(service: &Service) -> RestartPolicy {
    let task = service.spec.as_ref().and_then(|s| s.task.as_ref());
    task.and_then(|t| t.restart).unwrap_or_default()
}

fn delay_ns(policy: &RestartPolicy) -> Nanos {
    policy.delay_ns.unwrap_or(DELAY_NS_DEFAULT).max(0)
}

/// Why a task that is meant to run no longer can.
fn lost(task: &Task, node: Option<&Node>, service: &Service, unfit: bool) -> Option<Because> {
    if task.state() == TaskState::Orphaned {
        return Some(Because::NodeGone);
    }
    if task.is_terminal() {
        return Some(Because::Ended(task.state()));
    }
    if task.node_id.is_empty() {
        return None;
    }
    let Some(node) = node else {
        return Some(Because::NodeGone);
    };
    if node.availability() == Availability::Drain {
        return Some(Because::NodeDrained);
    }
    if node.state() == NodeState::Down {
        return Some(Because::NodeDown);
    }
    let global_unfit = || task.slot == 0 && Wants::new(service, 0).suits(node).is_err();
    (unfit || global_unfit()).then_some(Because::NodeUnfit)
}

/// Whether another task may follow `task`, under `policy`.
pub(super) fn may_follow(policy: &RestartPolicy, task: &Task, now: Nanos) -> bool {
    let by_itself = ended_by_itself(task);
    match policy.condition() {
        // A node's task that was stopped with the node's part in the service is
        // made again; one that has run is not.
        RestartCondition::None => task.slot == 0 && !by_itself,
        RestartCondition::OnFailure if task.state() == TaskState::Complete => false,
        RestartCondition::Any | RestartCondition::OnFailure => {
            !by_itself
                || policy.max_attempts == 0
                || attempts(policy, task, now) < policy.max_attempts
        }
    }
}

/// Restarts that count against the limit.
fn attempts(policy: &RestartPolicy, task: &Task, now: Nanos) -> u64 {
    let Some(history) = &task.restarts else {
        return 0;
    };
    if policy.window_ns <= 0 {
        return history.count;
    }
    let ended = ended_at(task).unwrap_or(now);
    let since = ended.saturating_sub(policy.window_ns);
    u64::try_from(history.at_ns.iter().filter(|at| **at > since).count()).unwrap_or(u64::MAX)
}

fn ended_at(task: &Task) -> Option<Nanos> {
    let status = task.status.as_ref()?;
    task.is_terminal().then_some(status.applied_at_ns)
}

/// The history of a task's successor.
fn history(policy: &RestartPolicy, task: &Task, counts: bool, now: Nanos) -> RestartHistory {
    let mut history = task.restarts.clone().unwrap_or_default();
    if !counts {
        return history;
    }
    history.count = history.count.saturating_add(1);
    if policy.max_attempts > 0 {
        history.at_ns.push(now);
        let max = usize::try_from(policy.max_attempts).unwrap_or(usize::MAX);
        let excess = history.at_ns.len().saturating_sub(max);
        history.at_ns.drain(..excess);
    } else {
        history.at_ns.clear();
    }
    history
}

impl Engine {
    /// Gives up tasks that ended or lost their node. Says why the newest one was.
    pub(super) fn end_lost(&mut self, draft: &mut Draft, key: &SlotKey) -> Option<Because> {
        let mut newest = None;
        for task in records(&draft.world, key) {
            let service = draft.service(&key.service_id)?;
            if task.desired() > TaskState::Running {
                continue;
            }
            let node = draft.world.node(&task.node_id).cloned();
            let unfit = self.dirty.unfit.remove(task.id());
            let Some(because) = lost(&task, node.as_deref(), &service, unfit) else {
                continue;
            };
            newest = Some(because);
            if let Because::Ended(_) = because {
                let since = self.dirty.ran_since.remove(task.id());
                self.count_failure(draft, &service, &task, since);
            }
            if because == Because::NodeUnfit {
                self.say_unfit(draft, &task);
            }
            self.stop(draft, &task, TaskState::Shutdown, because);
        }
        newest
    }

    /// The record says why the task had to go; its state stays what it is until
    /// the node has stopped it.
    fn say_unfit(&mut self, draft: &mut Draft, task: &Task) {
        let status = TaskStatus {
            message: "task rejected by constraint enforcer".to_owned(),
            error: "assigned node no longer meets constraints".to_owned(),
            ..task.status.clone().unwrap_or_default()
        };
        let applied = draft.patch(TaskPatch {
            id: task.id().to_owned(),
            status: Some(status),
            ..TaskPatch::default()
        });
        self.observe(&applied);
    }

    /// Puts another task into a slot that has none left that is up to date.
    pub(super) fn restart(&mut self, draft: &mut Draft, key: &SlotKey, ended: Option<Because>) {
        let Some(service) = draft.service(&key.service_id) else {
            return;
        };
        let records = records(&draft.world, key);
        if key.slot == 0 && !self.wanted_on_node(draft, &service, key) {
            return;
        }
        let kept = |t: &&std::sync::Arc<Task>| t.desired() != TaskState::Remove;
        let Some(last) = records.iter().rfind(kept) else {
            if key.slot == 0 && service.current_template().is_some() {
                self.create(
                    draft,
                    &service,
                    key,
                    NewTask {
                        template: service.template_version,
                        desired: TaskState::Running,
                        start_at_ns: 0,
                        restarts: RestartHistory::default(),
                        because: Because::NodeJoined,
                    },
                );
            }
            return;
        };
        if last.is_live() {
            return;
        }
        let wants = Wants::new(&service, service.template_version);
        let outdated = |task: &Task| is_outdated(&draft.world, &service, &wants, task);
        if records.iter().any(|t| t.is_live() && !outdated(t)) {
            return;
        }
        // An older task that still runs keeps the slot, unless the update's own
        // task has failed: that one is tried again beside it.
        let beside = records.iter().any(|t| t.is_live());
        let by_itself = ended_by_itself(last);
        if beside && !(by_itself && last.template_version == service.template_version) {
            return;
        }
        let policy = policy(&service);
        let template = update::template_for_restart(&service, last);
        let same = template == last.template_version;
        if (same || by_itself) && !may_follow(&policy, last, draft.now) {
            return;
        }
        let because = ended.unwrap_or(match last.state() {
            state if by_itself => Because::Ended(state),
            _ if key.slot == 0 => Because::NodeJoined,
            _ => Because::Scale,
        });
        let moved = matches!(
            because,
            Because::NodeDrained | Because::NodeUnfit | Because::NodeJoined
        );
        let drained = draft
            .world
            .node(&last.node_id)
            .is_some_and(|n| n.availability() == Availability::Drain);
        let delay = if moved || drained {
            0
        } else {
            delay_ns(&policy)
        };
        let from = ended_at(last)
            .filter(|at| by_itself && *at <= draft.now)
            .unwrap_or(draft.now);
        let start_at_ns = from.saturating_add(delay).max(last.start_at_ns);
        let restarts = if same {
            history(&policy, last, by_itself, draft.now)
        } else {
            RestartHistory::default()
        };
        self.create(
            draft,
            &service,
            key,
            NewTask {
                template,
                desired: TaskState::Ready,
                start_at_ns,
                restarts,
                because,
            },
        );
    }

    /// Lets a prepared task start once its time has come and the one before it
    /// is off.
    pub(super) fn promote(&mut self, draft: &mut Draft, key: &SlotKey) {
        let records = records(&draft.world, key);
        for task in &records {
            if !task.is_live() || task.desired() != TaskState::Ready {
                continue;
            }
            let held_up = records.iter().any(|other| {
                other.id() != task.id()
                    && other.desired() > TaskState::Running
                    && other.state() >= TaskState::Assigned
                    && !Self::is_off(draft, other)
            });
            let at = if held_up {
                let latest = task.meta().created_at_ns.saturating_add(STOP_WAIT_NS_MAX);
                latest.max(task.start_at_ns)
            } else {
                task.start_at_ns
            };
            if at > draft.now {
                self.dirty.wake(at, Wake::Slot(key.clone()));
                continue;
            }
            let applied = draft.patch(TaskPatch {
                id: task.id().to_owned(),
                desired: Some(TaskState::Running.into()),
                start_at_ns: Some(0),
                ..TaskPatch::default()
            });
            self.observe(&applied);
            draft.reasons.push(Reason::Started {
                task: task.short_name(),
            });
        }
    }

    /// Whether the node of a global service's slot takes part in it.
    fn wanted_on_node(&self, draft: &Draft, service: &Service, key: &SlotKey) -> bool {
        draft
            .world
            .node(&key.node_id)
            .is_some_and(|node| takes_part(service, node))
    }
}

//! What one look at a service shows.
//!
//! Invariant: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_proto::Error;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    EndpointSpec, Node, NodeState, Service, Task, TaskSpec, TaskState, Template,
    update_status::State,
};

use crate::cli::rows::reason;
use crate::ui::Progress;
use crate::ui::progress::bar;

/// Most rows that are shown; beyond, those that do not run yet.
const ROWS_MAX: usize = 20;
/// Steps of a task until it runs.
const STEPS: usize = 9;
/// Characters of the longest state's word.
const STATE_WIDTH: usize = 9;

/// The tasks that count, one per slot or node.
#[derive(Debug)]
pub struct View {
    wanted: u64,
    running: u64,
    is_global: bool,
    is_rollback: bool,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    label: String,
    state: TaskState,
    desired: TaskState,
    counts: bool,
    reason: String,
    node: String,
    last_error: String,
}

impl View {
    /// Of a service with all its tasks, and all nodes; `any_template`: tasks
    /// count whatever they were made from.
    pub fn new(service: &Service, tasks: &[Task], nodes: &[Node], any_template: bool) -> Self {
        let is_global = service.is_global();
        let node = |id: &str| nodes.iter().find(|n| n.id() == id);
        let hostname = |id: &str| node(id).map_or(id, Node::hostname).to_owned();
        let mut by_slot: BTreeMap<(u64, String), Vec<&Task>> = BTreeMap::new();
        let counts = |task: &&Task| any_template || is_up_to_date(service, task);
        for task in tasks.iter().filter(counts) {
            let on = if task.slot == 0 {
                task.node_id.clone()
            } else {
                String::new()
            };
            by_slot.entry((task.slot, on)).or_default().push(task);
        }
        let mut slots = Vec::new();
        for ((number, on), mut tasks) in by_slot {
            tasks.sort_by_key(|t| (!t.is_live(), std::cmp::Reverse(t.meta().created_at_ns)));
            let Some((current, older)) = tasks.split_first() else {
                continue;
            };
            if current.desired() > TaskState::Running {
                continue;
            }
            let is_down = node(&current.node_id).is_some_and(|n| n.state() == NodeState::Down);
            slots.push(Slot {
                label: if number == 0 {
                    hostname(&on)
                } else {
                    format!("{number}/{}", service.replicas())
                },
                state: current.state(),
                desired: current.desired(),
                counts: current.state() == TaskState::Running
                    && current.desired() == TaskState::Running
                    && !is_down,
                reason: reason(current).to_owned(),
                node: hostname(&current.node_id),
                last_error: older
                    .first()
                    .and_then(|t| t.status.as_ref())
                    .map(|s| s.error.clone())
                    .unwrap_or_default(),
            });
        }
        let running = slots.iter().filter(|s| s.counts).count() as u64;
        Self {
            wanted: if is_global {
                slots.len() as u64
            } else {
                service.replicas()
            },
            running,
            is_global,
            is_rollback: service.update_status.as_ref().is_some_and(|u| {
                matches!(u.state(), State::RollbackStarted | State::RollbackPaused)
            }),
            slots,
        }
    }

    /// Everything that is wanted runs, and nothing more.
    pub fn is_converged(&self) -> bool {
        self.running == self.wanted
            && self.slots.len() as u64 == self.wanted
            && !(self.is_global && self.wanted == 0)
    }

    /// Nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.wanted == 0
    }

    /// What is under way goes back to the template of before.
    pub fn is_rollback(&self) -> bool {
        self.is_rollback
    }

    /// Tasks that run as they should.
    pub fn running(&self) -> u64 {
        self.running
    }

    /// All that does not run waits for a node, and the swarm has said why.
    pub fn is_blocked(&self) -> bool {
        let waiting: Vec<&Slot> = self.slots.iter().filter(|s| !s.counts).collect();
        if waiting.is_empty() {
            return self.is_global && self.wanted == 0;
        }
        waiting.iter().all(|s| s.is_unplaced())
    }

    /// The error for tasks that have no node.
    pub fn not_placed(&self, name: &str) -> Error {
        let unplaced: Vec<&Slot> = self.slots.iter().filter(|s| s.is_unplaced()).collect();
        let why = unplaced
            .first()
            .map_or("no node fits", |s| s.reason.as_str());
        let count = unplaced.len();
        let have = if count == 1 { "has" } else { "have" };
        Error::precondition(if count == 0 {
            format!("service {name} has no node to run on: {why}")
        } else {
            format!(
                "service {name}: {count} of {} tasks {have} no node: {why}",
                self.wanted
            )
        })
        .hint(format!(
            "skep explain {name} tells what would help; they start as soon as a node fits"
        ))
    }

    /// The error for tasks that do not come along.
    pub fn too_slow(&self, name: &str, patience: Duration) -> Error {
        let why = self
            .slots
            .iter()
            .filter(|s| !s.counts)
            .map(|s| {
                if s.reason.is_empty() {
                    &s.last_error
                } else {
                    &s.reason
                }
            })
            .find(|r| !r.is_empty())
            .map(|r| format!(": {r}"))
            .unwrap_or_default();
        Error::precondition(format!(
            "service {name}: {} of {} tasks run, and no more did for {patience:?}{why}",
            self.running, self.wanted
        ))
        .hint(format!(
            "it goes on in the background: skep service ps {name}, skep explain {name}"
        ))
    }

    /// Draws it.
    pub fn show(&self, progress: &mut Progress<'_>) {
        let prefix = if self.is_rollback {
            "rolling back update: "
        } else {
            ""
        };
        progress.overall(&if self.is_global && self.wanted == 0 {
            format!("overall progress: {prefix}waiting for new tasks")
        } else {
            format!(
                "overall progress: {prefix}{} out of {} tasks",
                self.running, self.wanted
            )
        });
        progress.rows(&self.rows(progress.is_live()));
    }

    fn rows(&self, with_bars: bool) -> BTreeMap<String, String> {
        let all = self.slots.len() <= ROWS_MAX;
        let shown: Vec<&Slot> = self
            .slots
            .iter()
            .filter(|s| all || !s.counts)
            .take(ROWS_MAX)
            .collect();
        let width = shown
            .iter()
            .map(|s| s.label.chars().count())
            .max()
            .unwrap_or(0);
        shown
            .iter()
            .enumerate()
            .map(|(index, slot)| {
                let label = format!("{:<width$}", slot.label);
                (
                    format!("{index:04}"),
                    format!("{label}: {}", slot.text(with_bars)),
                )
            })
            .collect()
    }
}

impl Slot {
    fn is_unplaced(&self) -> bool {
        self.state <= TaskState::Pending && !self.reason.is_empty()
    }

    fn text(&self, with_bar: bool) -> String {
        if !self.reason.is_empty() {
            return match self.state <= TaskState::Pending || self.node.is_empty() {
                true => format!("{}: {}", self.state.word(), self.reason),
                false => format!("{} on {}: {}", self.state.word(), self.node, self.reason),
            };
        }
        let word = self.state.word();
        let mut text = if with_bar {
            format!("{word:<STATE_WIDTH$} {}", bar(step(self.state), STEPS))
        } else {
            word.to_owned()
        };
        if !self.counts && !self.last_error.is_empty() && self.desired <= TaskState::Running {
            text.push_str(&format!(" after {}", self.last_error));
        }
        text
    }
}

/// How far a task has come, of [`STEPS`].
fn step(state: TaskState) -> usize {
    match state {
        TaskState::New => 1,
        TaskState::Pending => 3,
        TaskState::Assigned => 4,
        TaskState::Accepted => 5,
        TaskState::Preparing => 6,
        TaskState::Ready => 7,
        TaskState::Starting => 8,
        TaskState::Running => 9,
        _ => 0,
    }
}

/// Made from the newest template, or from one that differs from it in nothing
/// that a running task would notice.
fn is_up_to_date(service: &Service, task: &Task) -> bool {
    if task.template_version == service.template_version {
        return true;
    }
    match (
        service.template(task.template_version),
        service.current_template(),
    ) {
        (Some(of_task), Some(newest)) => essence(of_task) == essence(newest),
        _ => false,
    }
}

fn essence(template: &Template) -> (TaskSpec, EndpointSpec) {
    let mut task = template.task.clone().unwrap_or_default();
    task.placement = None;
    if let Some(container) = &mut task.container {
        container.registry_auth.clear();
    }
    (task, template.endpoint.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::{node, service, task};
    use skep_proto::v1::{Placement, UpdateStatus, Verdict, service_spec::Mode};

    fn view(service: &Service, tasks: &[Task]) -> View {
        View::new(service, tasks, &[node("n1", "alpha", None)], false)
    }

    fn running(id: &str, slot: u64) -> Task {
        task(id, slot, TaskState::Running, TaskState::Running, 1)
    }

    fn pending(id: &str, slot: u64) -> Task {
        Task {
            verdict: Some(Verdict {
                summary: "no suitable node (1 drained)".into(),
                ..Verdict::default()
            }),
            ..task(id, slot, TaskState::Pending, TaskState::Running, 1)
        }
    }

    #[test]
    fn converged_is_what_is_wanted_and_no_more() {
        let web = service("s1", "web", 2);
        assert!(view(&web, &[running("a", 1), running("b", 2)]).is_converged());
        assert!(!view(&web, &[running("a", 1)]).is_converged());
        let three = [running("a", 1), running("b", 2), running("c", 3)];
        assert!(!view(&web, &three).is_converged(), "one is still to go");
        assert!(view(&service("s1", "web", 0), &[]).is_converged());
    }

    #[test]
    fn a_task_on_a_lost_node_does_not_count() {
        let web = service("s1", "web", 1);
        let mut lost = node("n1", "alpha", None);
        if let Some(status) = &mut lost.status {
            status.set_state(NodeState::Down);
        }
        assert!(!View::new(&web, &[running("a", 1)], &[lost], false).is_converged());
    }

    #[test]
    fn tasks_of_an_older_template_do_not_count_unless_only_placement_differs() {
        let mut web = service("s1", "web", 1);
        let mut newer = web.templates[0].clone();
        newer.version = 9;
        web.template_version = 9;
        newer.task.as_mut().unwrap().placement = Some(Placement {
            constraints: vec!["node.role==worker".into()],
            ..Placement::default()
        });
        web.templates.push(newer);
        assert!(view(&web, &[running("a", 1)]).is_converged());
        let newest = web.templates[1].task.as_mut().unwrap();
        newest.force_update = 1;
        assert!(!view(&web, &[running("a", 1)]).is_converged());
        assert!(View::new(&web, &[running("a", 1)], &[], true).is_converged());
    }

    #[test]
    fn blocked_means_that_all_the_rest_has_no_node() {
        let web = service("s1", "web", 2);
        assert!(view(&web, &[running("a", 1), pending("b", 2)]).is_blocked());
        let starting = task("a", 1, TaskState::Starting, TaskState::Running, 1);
        assert!(!view(&web, &[starting, pending("b", 2)]).is_blocked());
        let error = view(&web, &[running("a", 1), pending("b", 2)]).not_placed("web");
        assert_eq!(
            error.message,
            "service web: 1 of 2 tasks has no node: no suitable node (1 drained)"
        );
    }

    #[test]
    fn a_global_service_without_a_node_is_blocked_not_converged() {
        let mut agent = service("s1", "agent", 0);
        agent.spec.as_mut().unwrap().mode = Some(Mode::Global(skep_proto::v1::Global {}));
        let nothing = view(&agent, &[]);
        assert!(nothing.is_blocked() && !nothing.is_converged());
        assert!(view(&agent, &[running("a", 0)]).is_converged());
    }

    #[test]
    fn rows_say_how_each_task_comes_along() {
        let mut web = service("s1", "web", 3);
        web.update_status = Some(UpdateStatus {
            state: State::RollbackStarted.into(),
            ..UpdateStatus::default()
        });
        let mut failed = task("d", 3, TaskState::Failed, TaskState::Shutdown, 9);
        failed.status.as_mut().unwrap().error = "task: non-zero exit (1)".into();
        let next = task("c", 3, TaskState::Ready, TaskState::Ready, 1);
        let tasks = [running("a", 1), pending("b", 2), failed, next];
        let (mut ui, seen) = crate::ui::Ui::captured(None, 0);
        let mut progress = ui.progress(false);
        view(&web, &tasks).show(&mut progress);
        progress.end();
        insta::assert_snapshot!(seen.err(), @r#"
        overall progress: rolling back update: 1 out of 3 tasks
        1/3: running
        2/3: pending: no suitable node (1 drained)
        3/3: ready after task: non-zero exit (1)
        "#);
        let rows = view(&web, &tasks).rows(true);
        insta::assert_snapshot!(rows["0000"], @"1/3: running   [==================================================>]");
    }
}

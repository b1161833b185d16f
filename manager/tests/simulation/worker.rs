//! A simulated worker: it knows the tasks that it was told of, moves each one a
//! state at a time, and says so when it is connected.

use std::collections::BTreeMap;

use skep_manager::state::{Nanos, World};
use skep_proto::objects::Identified;
use skep_proto::v1::{TaskReport, TaskState, TaskStatus};

use crate::swarm::Dice;

#[derive(Debug, Clone)]
struct Container {
    state: TaskState,
    desired: TaskState,
    said: Option<TaskState>,
}

/// A host and what runs on it.
#[derive(Debug, Default)]
pub struct Worker {
    /// Told of changes, and heard.
    pub connected: bool,
    containers: BTreeMap<String, Container>,
}

impl Worker {
    /// What the leader tells a connected worker: everything it should have.
    pub fn assign(&mut self, world: &World, node_id: &str) {
        let told: Vec<_> = world
            .tasks_on_node(node_id)
            .filter(|t| t.is_placed())
            .collect();
        self.containers
            .retain(|id, _| told.iter().any(|t| t.id() == id));
        for task in told {
            let fresh = || Container {
                state: task.state().max(TaskState::Assigned),
                desired: task.desired(),
                said: None,
            };
            let container = self
                .containers
                .entry(task.id().to_owned())
                .or_insert_with(fresh);
            container.desired = task.desired();
        }
    }

    /// Lets every task take a step; `failing`: so many in a hundred fail instead.
    pub fn work(&mut self, dice: &mut Dice, failing: u32) {
        for container in self.containers.values_mut() {
            if container.state > TaskState::Running || dice.percent(30) {
                continue;
            }
            if dice.percent(failing) {
                container.state = match (container.state < TaskState::Starting, dice.percent(30)) {
                    (true, _) => TaskState::Rejected,
                    (false, true) => TaskState::Complete,
                    (false, false) => TaskState::Failed,
                };
                continue;
            }
            container.state = match (container.desired, container.state) {
                (desired, _) if desired > TaskState::Running => TaskState::Shutdown,
                (_, TaskState::Assigned) => TaskState::Accepted,
                (_, TaskState::Accepted) => TaskState::Preparing,
                (_, TaskState::Preparing) => TaskState::Ready,
                (TaskState::Running, TaskState::Ready) => TaskState::Starting,
                (TaskState::Running, TaskState::Starting) => TaskState::Running,
                (_, state) => state,
            };
        }
    }

    /// The host restarted: nothing that ran does any more.
    pub fn reboot(&mut self) {
        for container in self.containers.values_mut() {
            if container.state <= TaskState::Running && container.state > TaskState::Ready {
                container.state = TaskState::Failed;
            }
        }
    }

    /// What it has not said yet, or `all` that it knows.
    pub fn reports(&mut self, now: Nanos, all: bool) -> Vec<TaskReport> {
        let mut reports = Vec::new();
        for (id, container) in &mut self.containers {
            let known = container.state >= TaskState::Accepted;
            if known && (all || container.said != Some(container.state)) {
                container.said = Some(container.state);
                reports.push(TaskReport {
                    task_id: id.clone(),
                    status: Some(TaskStatus {
                        state: container.state.into(),
                        at_ns: now,
                        ..TaskStatus::default()
                    }),
                });
            }
        }
        reports
    }

    /// Ids of tasks whose container runs.
    pub fn running(&self) -> impl Iterator<Item = &String> {
        let runs = |(id, c): (_, &Container)| (c.state == TaskState::Running).then_some(id);
        self.containers.iter().filter_map(runs)
    }

    /// Reports were lost with the leader that took them: they are sent again.
    pub fn forget_said(&mut self) {
        self.containers.values_mut().for_each(|c| c.said = None);
    }
}

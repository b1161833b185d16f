//! Verbs and the engine together, as the leader runs them: whatever operators,
//! nodes and workers say, the invariants hold after every step, and once all is
//! well again, what was asked for runs.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::engine::Engine;
use crate::state::{Applied, invariants};

const SECOND: Nanos = 1_000_000_000;
const NODES: u8 = 4;
/// Decisions that one step may need to come to rest.
const DECISIONS_MAX: usize = 50;

#[derive(Debug, Clone)]
enum Step {
    Create(u8, u8),
    Global(u8),
    Image(u8, u8),
    Labels(u8, u8),
    Constrain(u8, bool),
    StartFirst(u8),
    Scale(u8, u8),
    Rollback(u8),
    Remove(u8),
    Seen(u8),
    Lost(u8, i32),
    Availability(u8, i32),
    Forget(u8),
    Join(u8),
    /// Workers move each of their tasks one state on; every n-th fails.
    Work(u8),
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let (service, node) = (0u8..3, 0..NODES);
    prop_oneof![
        3 => (service.clone(), 0u8..6).prop_map(|(s, n)| Create(s, n)),
        1 => service.clone().prop_map(Global),
        3 => (service.clone(), 0u8..3).prop_map(|(s, n)| Image(s, n)),
        1 => (service.clone(), 0u8..3).prop_map(|(s, n)| Labels(s, n)),
        1 => (service.clone(), any::<bool>()).prop_map(|(s, on)| Constrain(s, on)),
        1 => service.clone().prop_map(StartFirst),
        2 => (service.clone(), 0u8..6).prop_map(|(s, n)| Scale(s, n)),
        2 => service.clone().prop_map(Rollback),
        1 => service.prop_map(Remove),
        2 => node.clone().prop_map(Seen),
        2 => (node.clone(), prop::sample::select(vec![0, 1, 3])).prop_map(|(n, s)| Lost(n, s)),
        1 => (node.clone(), 0..3).prop_map(|(n, a)| Availability(n, a)),
        1 => node.clone().prop_map(Forget),
        1 => node.prop_map(Join),
        8 => (0u8..8).prop_map(Work),
        4 => (1u8..9).prop_map(Pass),
    ]
}

struct Leader {
    swarm: Swarm,
    engine: Engine,
    joined: u8,
    decisions: u64,
}

impl Leader {
    fn new() -> Self {
        let swarm = Swarm::founded();
        let engine = Engine::new(&swarm.world);
        let mut leader = Self {
            swarm,
            engine,
            joined: 0,
            decisions: 0,
        };
        for n in 0..NODES {
            leader.step(&Step::Join(n));
        }
        leader
    }

    /// A verb that may well be refused.
    fn say(&mut self, verb: Verb) {
        let request = WriteRequest {
            verb: Some(verb),
            ..WriteRequest::default()
        };
        // No two entries of the log are of the same time.
        self.swarm.now += 1;
        let seed = Seed(self.swarm.world.version() + 1);
        if let Ok(execution) = execute(&self.swarm.world, &request, self.swarm.now, seed) {
            self.apply(execution.changes);
        }
        self.rest();
    }

    fn apply(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let applied: Applied = self.swarm.world.apply(&Transaction {
            at_ns: self.swarm.now,
            changes,
            outcomes: vec![],
        });
        self.engine.observe(&applied);
    }

    /// Lets the engine decide until it has nothing more to do now.
    fn rest(&mut self) {
        for _ in 0..DECISIONS_MAX {
            self.decisions += 1;
            let decision =
                self.engine
                    .decide(&self.swarm.world, self.swarm.now, Seed(self.decisions));
            let violations = invariants::check(&self.swarm.world);
            if decision.changes.is_empty() {
                assert!(violations.is_empty(), "{violations:?}");
                return;
            }
            self.apply(decision.changes);
        }
        panic!("the engine does not come to rest");
    }

    fn change(&mut self, service: u8, edit: impl FnOnce(&mut ServiceSpec)) {
        let Some(found) = self.swarm.world.service_named(&format!("s{service}")) else {
            return;
        };
        let mut spec = found.spec.clone().unwrap();
        edit(&mut spec);
        self.say(Verb::UpdateService(UpdateService {
            service: found.id().to_owned(),
            version: found.meta().version,
            spec: Some(spec),
            rollback: false,
        }));
    }

    /// The n-th worker's present id: one that was removed joins as another.
    fn node(&self, n: u8) -> Option<String> {
        let host = format!("w{n}");
        self.swarm
            .world
            .nodes()
            .find(|node| node.hostname() == host)
            .map(|node| node.id().to_owned())
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Create(service, replicas) => self.say(create(ServiceSpec {
                name: format!("s{service}"),
                mode: Some(service_spec::Mode::Replicated(Replicated {
                    replicas: replicas.into(),
                })),
                ..spec("s")
            })),
            Step::Global(service) => self.say(create(ServiceSpec {
                name: format!("s{service}"),
                mode: Some(service_spec::Mode::Global(Global {})),
                ..spec("s")
            })),
            Step::Image(service, n) => self.change(service, |s| {
                let container = s.task.as_mut().unwrap().container.as_mut().unwrap();
                container.image = format!("alpine:{n}");
            }),
            Step::Labels(service, n) => self.change(service, |s| {
                s.labels.insert("n".to_owned(), n.to_string());
            }),
            Step::Constrain(service, on) => self.change(service, |s| {
                let constraints = if on {
                    vec!["node.role == worker".to_owned()]
                } else {
                    vec![]
                };
                s.task.as_mut().unwrap().placement = Some(Placement {
                    constraints,
                    ..Placement::default()
                });
            }),
            Step::StartFirst(service) => self.change(service, |s| {
                s.update = Some(UpdateConfig {
                    order: UpdateOrder::StartFirst.into(),
                    failure_action: FailureAction::Rollback.into(),
                    ..UpdateConfig::default()
                });
            }),
            Step::Scale(service, replicas) => self.say(Verb::ScaleService(ScaleService {
                service: format!("s{service}"),
                replicas: replicas.into(),
            })),
            Step::Rollback(service) => {
                let Some(found) = self.swarm.world.service_named(&format!("s{service}")) else {
                    return;
                };
                self.say(Verb::UpdateService(UpdateService {
                    service: found.id().to_owned(),
                    version: found.meta().version,
                    spec: None,
                    rollback: true,
                }));
            }
            Step::Remove(service) => {
                self.say(Verb::RemoveService(RemoveService {
                    service: format!("s{service}"),
                }));
            }
            Step::Seen(n) => self.seen(n),
            Step::Lost(n, state) => {
                let Some(id) = self.node(n) else { return };
                self.say(Verb::NodeLost(NodeLost {
                    node_ids: vec![id],
                    state,
                    message: String::new(),
                }));
            }
            Step::Availability(n, availability) => self.available(n, availability),
            Step::Forget(n) => {
                let Some(node) = self.node(n) else { return };
                self.say(Verb::RemoveNode(RemoveNode { node, force: true }));
            }
            Step::Join(n) => self.join(n),
            Step::Work(fails) => self.work(fails),
            Step::Pass(seconds) => {
                self.swarm.now += Nanos::from(seconds) * SECOND;
                self.rest();
            }
        }
    }

    fn seen(&mut self, n: u8) {
        let Some(node_id) = self.node(n) else { return };
        let description = NodeDescription {
            hostname: format!("w{n}"),
            resources: Some(Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 1 << 32,
            }),
            ..NodeDescription::default()
        };
        self.say(Verb::NodeSeen(NodeSeen {
            node_id,
            addr: "10.0.0.1".to_owned(),
            description: Some(description),
            running: vec![],
        }));
    }

    fn available(&mut self, n: u8, availability: i32) {
        let Some(id) = self.node(n) else { return };
        let node = self.swarm.node(&id);
        let spec = NodeSpec {
            availability,
            ..node.spec.clone().unwrap()
        };
        self.say(Verb::UpdateNode(UpdateNode {
            node: id,
            version: node.meta().version,
            spec: Some(spec),
        }));
    }

    fn join(&mut self, n: u8) {
        if self.node(n).is_none() {
            self.joined += 1;
            let mut node = joiner(&format!("id{}", self.joined), Role::Worker);
            node.description.as_mut().unwrap().hostname = format!("w{n}");
            self.say(Verb::RegisterNode(RegisterNode { node: Some(node) }));
            self.seen(n);
        }
    }

    /// Every worker that can be heard takes each of its tasks one state on.
    fn work(&mut self, fails: u8) {
        for n in 0..NODES {
            let Some(id) = self.node(n) else { continue };
            if self.swarm.node(&id).state() != NodeState::Ready {
                continue;
            }
            let tasks = self.swarm.world.tasks_on_node(&id);
            let reports: Vec<TaskReport> = tasks
                .enumerate()
                .filter_map(|(i, t)| next(t, i, fails))
                .collect();
            self.say(Verb::ReportStatuses(ReportStatuses {
                node_id: id,
                reports,
            }));
        }
    }

    /// All nodes are there and take tasks, no task fails, time goes by.
    fn heal(&mut self) {
        for n in 0..NODES {
            self.join(n);
            self.available(n, Availability::Active.into());
            self.seen(n);
        }
        for _ in 0..120 {
            for _ in 0..5 {
                self.work(0);
            }
            self.step(&Step::Pass(2));
        }
    }

    fn assert_healed(&self) {
        for service in self.swarm.world.services() {
            let paused = service.update_status.as_ref().is_some_and(|u| {
                matches!(
                    u.state(),
                    update_status::State::Paused | update_status::State::RollbackPaused
                )
            });
            let running = self.swarm.world.tasks_of_service(service.id()).filter(|t| {
                t.state() == TaskState::Running
                    && t.desired() == TaskState::Running
                    && (paused || t.template_version == service.template_version)
            });
            // The founder's node is never heard of: only workers run tasks.
            let wanted = if service.is_global() {
                u64::from(NODES)
            } else {
                service.replicas()
            };
            assert_eq!(running.count() as u64, wanted, "{service:#?}");
        }
    }
}

/// What the worker says of one task next, if anything.
fn next(task: &Task, i: usize, fails: u8) -> Option<TaskReport> {
    use TaskState::{
        Accepted, Assigned, Failed, Preparing, Ready, Rejected, Running, Shutdown, Starting,
    };
    let failing = fails > 0 && i % usize::from(fails) == usize::from(fails) / 2;
    let state = match task.state() {
        state if state > Running => return None,
        _ if task.desired() > Running => Shutdown,
        state if failing => {
            if state < Starting {
                Rejected
            } else {
                Failed
            }
        }
        Assigned => Accepted,
        Accepted => Preparing,
        Preparing => Ready,
        Ready if task.desired() == Running => Starting,
        Starting => Running,
        _ => return None,
    };
    Some(TaskReport {
        task_id: task.id().to_owned(),
        status: Some(TaskStatus {
            state: state.into(),
            ..TaskStatus::default()
        }),
    })
}

#[test]
fn any_history_keeps_the_invariants_and_heals() {
    let config = Config {
        // A history takes long; PROPTEST_CASES asks for more of them.
        cases: Config::default().cases / 12,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            let mut leader = Leader::new();
            for step in &steps {
                leader.step(step);
            }
            leader.heal();
            leader.assert_healed();
            Ok(())
        })
        .unwrap();
}

//! Scripts of commands, and what the engine answers, line by line. A bug report
//! becomes a script in `scripts/`.
//!
//! A line that begins with `> ` is a command; the lines below it are what was
//! decided. `SKEP_REWRITE=1` writes the answers anew. Commands:
//!
//! ```text
//! > nodes 3                     n1, n2, n3 join: 4 CPUs, 4 GiB each
//! > create web 3 KEY=VALUE…     keys as for `update`
//! > update web KEY=VALUE…       force, delay, condition, attempts, memory, constraint,
//!                               parallelism, update-delay, on-failure, order
//! > scale web 5                 > rm web
//! > node n1 drain|pause|active  > node n1 label=value
//! > n1 down|suspect|ready       its session ends, or is back
//! > fail web.1                  the live task of slot 1 fails
//! > work                        workers do what they are told, until nothing moves
//! > wait 5                      seconds pass
//! > show web                    > explain web
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

use std::fmt::Write;
use std::path::Path;

use skep_manager::control;
use skep_manager::engine::{Engine, explain};
use skep_manager::state::{Nanos, Seed, World, invariants};
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Change, Cluster, ContainerSpec, CreateService, FailureAction, Meta, Node,
    NodeDescription, NodeLost, NodeSeen, NodeSpec, NodeState, Platform, RegisterNode,
    RemoveService, Replicated, ReportStatuses, Resources, RestartCondition, ScaleService,
    ServiceSpec, Task, TaskReport, TaskSpec, TaskState, TaskStatus, Transaction, UpdateNode,
    UpdateOrder, UpdateService, WriteRequest, change, service_spec::Mode, write_request::Verb,
};

const SECOND: Nanos = 1_000_000_000;

#[test]
fn every_script_is_answered_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let rewrite = std::env::var("SKEP_REWRITE").is_ok();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let answered = play(&script);
        if rewrite {
            std::fs::write(&path, &answered).unwrap();
        }
        assert!(
            rewrite || answered == script,
            "{} is answered otherwise (SKEP_REWRITE=1 writes it anew):\n{answered}",
            path.display()
        );
        count += 1;
    }
    assert!(count > 0, "there are scripts in {}", folder.display());
}

fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            out.push_str(&stage.command(command));
        } else if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

struct Stage {
    world: World,
    engine: Engine,
    now: Nanos,
    seed: u64,
}

impl Stage {
    fn new() -> Self {
        let mut world = World::default();
        let cluster = Cluster {
            meta: Some(Meta {
                id: "cluster".to_owned(),
                ..Meta::default()
            }),
            ..Cluster::default()
        };
        world.apply(&Transaction {
            changes: vec![Change {
                change: Some(change::Change::Put(cluster.into())),
            }],
            ..Transaction::default()
        });
        let engine = Engine::new(&world);
        Self {
            world,
            engine,
            now: 1_000 * SECOND,
            seed: 0,
        }
    }

    fn command(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["nodes", count] => (1..=count.parse().unwrap()).map(|n| self.join(n)).collect(),
            ["create", name, replicas, settings @ ..] => {
                let mut spec = ServiceSpec {
                    name: (*name).to_owned(),
                    task: Some(TaskSpec {
                        container: Some(ContainerSpec {
                            image: "web:1".into(),
                            ..Default::default()
                        }),
                        ..TaskSpec::default()
                    }),
                    mode: Some(Mode::Replicated(Replicated {
                        replicas: replicas.parse().unwrap(),
                    })),
                    ..ServiceSpec::default()
                };
                set(&mut spec, settings);
                self.commit(Some(Verb::CreateService(CreateService {
                    spec: Some(spec),
                })))
            }
            ["update", name, settings @ ..] => {
                let service = self.world.service_named(name).unwrap();
                let mut spec = service.spec.clone().unwrap();
                set(&mut spec, settings);
                let verb = UpdateService {
                    service: (*name).to_owned(),
                    version: service.meta().version,
                    spec: Some(spec),
                    rollback: false,
                };
                self.commit(Some(Verb::UpdateService(verb)))
            }
            ["scale", name, replicas] => self.commit(Some(Verb::ScaleService(ScaleService {
                service: (*name).to_owned(),
                replicas: replicas.parse().unwrap(),
            }))),
            ["rm", name] => self.commit(Some(Verb::RemoveService(RemoveService {
                service: (*name).to_owned(),
            }))),
            ["node", name, setting] => {
                let node = self.node(name);
                let mut spec = node.spec.clone().unwrap();
                match setting.split_once('=') {
                    Some((label, value)) => drop(spec.labels.insert(label.into(), value.into())),
                    None => spec.availability = Availability::from_word(setting).unwrap().into(),
                }
                let (node, version) = (node.id().to_owned(), node.meta().version);
                self.commit(Some(Verb::UpdateNode(UpdateNode {
                    node,
                    version,
                    spec: Some(spec),
                })))
            }
            [name, "down"] => self.lost(name, NodeState::Down),
            [name, "suspect"] => self.lost(name, NodeState::Suspect),
            [name, "ready"] => {
                let node_id = self.node(name).id().to_owned();
                self.commit(Some(Verb::NodeSeen(NodeSeen {
                    node_id,
                    ..NodeSeen::default()
                })))
            }
            ["fail", slot] => {
                let live = self
                    .world
                    .tasks()
                    .find(|t| t.is_live() && t.short_name() == *slot);
                let verb = report(live.unwrap(), TaskState::Failed);
                self.commit(Some(verb))
            }
            ["work"] => self.work(),
            ["wait", seconds] => {
                self.now += seconds.parse::<Nanos>().unwrap() * SECOND;
                self.commit(None)
            }
            ["show", name] => self.show(name),
            ["explain", name] => {
                let id = self.world.service_named(name).unwrap().id().to_owned();
                let told = explain(&self.world, &id, self.now).unwrap();
                let notes = told.notes.into_iter().map(|n| format!("    {n}\n"));
                format!("  {}\n{}", told.headline, notes.collect::<String>())
            }
            _ => panic!("no such command: {command}"),
        }
    }

    fn join(&mut self, n: u64) -> String {
        let id = format!("{n:0>25}");
        let node = Node {
            meta: Some(Meta {
                id: id.clone(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec::default()),
            description: Some(NodeDescription {
                hostname: format!("n{n}"),
                platform: Some(Platform {
                    architecture: "x86_64".into(),
                    os: "linux".into(),
                }),
                resources: Some(Resources {
                    nano_cpus: 4_000_000_000,
                    memory_bytes: 4 << 30,
                }),
                ..NodeDescription::default()
            }),
            ..Node::default()
        };
        let first = self.commit(Some(Verb::RegisterNode(RegisterNode { node: Some(node) })));
        first
            + &self.commit(Some(Verb::NodeSeen(NodeSeen {
                node_id: id,
                ..NodeSeen::default()
            })))
    }

    fn lost(&mut self, name: &str, state: NodeState) -> String {
        let node_ids = vec![self.node(name).id().to_owned()];
        let message = "heartbeat failure".to_owned();
        self.commit(Some(Verb::NodeLost(NodeLost {
            node_ids,
            state: state.into(),
            message,
        })))
    }

    fn node(&self, name: &str) -> Node {
        (**self.world.nodes_named(name).next().unwrap()).clone()
    }

    /// One entry of the log, and the reasons of what was decided.
    fn commit(&mut self, verb: Option<Verb>) -> String {
        self.seed += 1;
        let seed = Seed(self.seed);
        if let Some(verb) = verb {
            let request = WriteRequest {
                verb: Some(verb),
                ..WriteRequest::default()
            };
            match control::execute(&self.world, &request, self.now, seed) {
                Ok(execution) => self.apply(execution.changes),
                Err(error) => return format!("  refused: {error}\n"),
            }
        }
        let decision = self.engine.decide(&self.world, self.now, seed);
        self.apply(decision.changes);
        let violations = invariants::check(&self.world);
        assert!(violations.is_empty(), "{violations:?}");
        decision
            .reasons
            .iter()
            .map(|reason| format!("  {reason}\n"))
            .collect()
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let applied = self.world.apply(&Transaction {
            at_ns: self.now,
            changes,
            outcomes: Vec::new(),
        });
        self.engine.observe(&applied);
    }

    fn work(&mut self) -> String {
        let mut out = String::new();
        loop {
            let tasks: Vec<Task> = self.world.tasks().map(|t| (**t).clone()).collect();
            let next = tasks.iter().find_map(|task| {
                let node = self.world.node(&task.node_id)?;
                let wanted = match task.desired() {
                    TaskState::Ready | TaskState::Running => task.desired(),
                    _ => TaskState::Shutdown,
                };
                let may = node.state() == NodeState::Ready
                    && task.is_placed()
                    && !task.is_terminal()
                    && task.state() < wanted;
                may.then(|| report(task, wanted))
            });
            match next {
                Some(verb) => out.push_str(&self.commit(Some(verb))),
                None => return out,
            }
        }
    }

    fn show(&self, name: &str) -> String {
        let id = self.world.service_named(name).unwrap().id();
        let mut tasks: Vec<_> = self.world.tasks_of_service(id).collect();
        tasks.sort_by_key(|t| (t.slot, t.meta().created_at_ns));
        let line = |task: &&std::sync::Arc<Task>| {
            let node = self.world.node(&task.node_id).map_or("-", |n| n.hostname());
            let (desired, state) = (task.desired().word(), task.state().word());
            format!(
                "  {:<8} {node:<4} {desired:<9} {state}\n",
                task.short_name()
            )
        };
        tasks.iter().map(line).collect()
    }
}

fn report(task: &Task, state: TaskState) -> Verb {
    let status = TaskStatus {
        state: state.into(),
        ..TaskStatus::default()
    };
    Verb::ReportStatuses(ReportStatuses {
        node_id: task.node_id.clone(),
        reports: vec![TaskReport {
            task_id: task.id().to_owned(),
            status: Some(status),
        }],
    })
}

fn set(spec: &mut ServiceSpec, settings: &[&str]) {
    for setting in settings {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let task = spec.task.get_or_insert_default();
        let seconds = || value.parse::<Nanos>().unwrap() * SECOND;
        match key {
            "force" => task.force_update += 1,
            "delay" => task.restart.get_or_insert_default().delay_ns = Some(seconds()),
            "condition" => {
                let condition = RestartCondition::from_word(value).unwrap();
                task.restart.get_or_insert_default().condition = condition.into();
            }
            "attempts" => {
                task.restart.get_or_insert_default().max_attempts = value.parse().unwrap();
            }
            "memory" => {
                let bytes = value.parse::<i64>().unwrap() << 20;
                let resources = task.resources.get_or_insert_default();
                resources.reservations.get_or_insert_default().memory_bytes = bytes;
            }
            "constraint" => {
                task.placement
                    .get_or_insert_default()
                    .constraints
                    .push(value.to_owned());
            }
            "parallelism" => {
                spec.update.get_or_insert_default().parallelism = value.parse().unwrap();
            }
            "update-delay" => spec.update.get_or_insert_default().delay_ns = seconds(),
            "on-failure" => {
                let action = FailureAction::from_word(value).unwrap();
                spec.update.get_or_insert_default().failure_action = action.into();
            }
            "order" => {
                let order = UpdateOrder::from_word(value).unwrap();
                spec.update.get_or_insert_default().order = order.into();
            }
            _ => panic!("no such setting: {setting}"),
        }
    }
}

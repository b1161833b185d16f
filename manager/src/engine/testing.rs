//! A small swarm for tests: a world, an engine, a clock, and workers that do
//! what the test says.

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Change, Cluster, Global, Kind, Meta, Node, NodeDescription, NodePatch, NodeSpec,
    NodeState, NodeStatus, Object, Placement, Platform, Removal, Replicated, Resources,
    RestartPolicy, Service, ServiceSpec, Task, TaskPatch, TaskSpec, TaskState, TaskStatus,
    Template, Transaction, change, service_spec::Mode,
};

use super::{Decision, Engine};
use crate::state::{Nanos, Seed, World};

pub(super) const SECOND: Nanos = 1_000_000_000;

pub(super) struct Lab {
    pub world: World,
    pub engine: Engine,
    pub now: Nanos,
    pub last: Decision,
    seed: u64,
}

impl Lab {
    /// Nodes `n1` to `n<nodes>`, ready, 4 CPUs and 4 GiB each.
    pub fn new(nodes: usize) -> Self {
        let world = World::default();
        let engine = Engine::new(&world);
        let mut lab = Self {
            world,
            engine,
            now: 1_000 * SECOND,
            last: Decision::default(),
            seed: 0,
        };
        lab.put(Cluster {
            meta: Some(meta("cluster")),
            ..Cluster::default()
        });
        for n in 1..=nodes {
            lab.put(node(&format!("n{n}")));
        }
        lab
    }

    pub fn apply(&mut self, changes: Vec<Change>) {
        let applied = self.world.apply(&Transaction {
            at_ns: self.now,
            changes,
            outcomes: Vec::new(),
        });
        self.engine.observe(&applied);
    }

    pub fn put(&mut self, object: impl Into<Object>) {
        self.apply(vec![Change {
            change: Some(change::Change::Put(object.into())),
        }]);
    }

    /// Decides until there is nothing more to do now, and checks that the
    /// engine, and a new leader's, agree that there is not.
    pub fn decide(&mut self) -> String {
        let mut lines = Vec::new();
        self.seed += 1;
        let decision = self.engine.decide(&self.world, self.now, Seed(self.seed));
        lines.extend(decision.reasons.iter().map(ToString::to_string));
        self.apply(decision.changes.clone());
        self.last = decision;
        let again = self
            .engine
            .decide(&self.world, self.now, Seed(self.seed + 1_000_000));
        assert_eq!(
            again.changes,
            Vec::new(),
            "the same question is answered with nothing"
        );
        assert_eq!(again.wake_at, self.last.wake_at);
        let fresh = Engine::new(&self.world).decide(&self.world, self.now, Seed(9));
        assert_eq!(
            fresh.changes,
            Vec::new(),
            "a new leader agrees: {:?}",
            fresh.reasons
        );
        assert_eq!(
            fresh.wake_at, self.last.wake_at,
            "a new leader has the same timers"
        );
        let violations = crate::state::invariants::check(&self.world);
        assert!(violations.is_empty(), "{violations:?}");
        lines.join("\n")
    }

    pub fn pass(&mut self, ns: Nanos) -> String {
        self.now += ns;
        self.decide()
    }

    pub fn service(&mut self, name: &str, replicas: u64, with: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = ServiceSpec {
            name: name.to_owned(),
            task: Some(TaskSpec {
                restart: Some(RestartPolicy::default()),
                ..TaskSpec::default()
            }),
            mode: Some(Mode::Replicated(Replicated { replicas })),
            ..ServiceSpec::default()
        };
        with(&mut spec);
        let version = self.world.version() + 1;
        self.put(Service {
            meta: Some(meta(name)),
            template_version: version,
            templates: vec![template(version, &spec)],
            spec: Some(spec),
            ..Service::default()
        });
    }

    /// As an operator's update: the template follows when `replace` says so.
    pub fn change(&mut self, name: &str, replace: bool, with: impl FnOnce(&mut ServiceSpec)) {
        self.now += SECOND;
        let mut service = (**self.world.service(name).unwrap()).clone();
        let mut spec = service.spec.clone().unwrap();
        with(&mut spec);
        service.previous_spec = service.spec.replace(spec.clone());
        if replace {
            service.template_version = self.world.version() + 1;
        } else {
            service
                .templates
                .retain(|t| t.version != service.template_version);
        }
        service
            .templates
            .push(template(service.template_version, &spec));
        service.update_status = None;
        self.put(service);
    }

    pub fn scale(&mut self, name: &str, replicas: u64) {
        self.change(name, false, |s| {
            s.mode = Some(Mode::Replicated(Replicated { replicas }))
        });
    }

    pub fn remove(&mut self, kind: Kind, id: &str) {
        self.apply(vec![Change {
            change: Some(change::Change::Remove(Removal {
                kind: kind.into(),
                id: id.to_owned(),
            })),
        }]);
    }

    pub fn tasks(&self, service: &str) -> Vec<Task> {
        let mut tasks: Vec<Task> = self
            .world
            .tasks_of_service(service)
            .map(|t| (**t).clone())
            .collect();
        let order = |t: &Task| {
            let node = if t.slot == 0 {
                t.node_id.clone()
            } else {
                String::new()
            };
            (t.slot, node, t.meta().created_at_ns, t.meta().version)
        };
        tasks.sort_by_key(order);
        tasks
    }

    pub fn live(&self, service: &str) -> Vec<Task> {
        self.tasks(service)
            .into_iter()
            .filter(Task::is_live)
            .collect()
    }

    /// The one live task of a slot.
    pub fn task(&self, service: &str, slot: u64) -> Task {
        let live: Vec<Task> = self
            .live(service)
            .into_iter()
            .filter(|t| t.slot == slot)
            .collect();
        assert_eq!(live.len(), 1, "one live task in {service}.{slot}: {live:?}");
        live[0].clone()
    }

    pub fn report(&mut self, task: &Task, state: TaskState) {
        self.apply(vec![Change {
            change: Some(change::Change::Task(TaskPatch {
                id: task.id().to_owned(),
                status: Some(TaskStatus {
                    state: state.into(),
                    at_ns: self.now,
                    applied_at_ns: self.now,
                    ..TaskStatus::default()
                }),
                ..TaskPatch::default()
            })),
        }]);
    }

    /// Every node does what it was told: what is wanted to run runs, what is
    /// wanted to stop has stopped.
    pub fn obey(&mut self) -> String {
        let mut lines = String::new();
        for _ in 0..20 {
            let tasks: Vec<Task> = self.world.tasks().map(|t| (**t).clone()).collect();
            let mut moved = false;
            for task in tasks {
                let ready = self
                    .world
                    .node(&task.node_id)
                    .is_some_and(|n| n.state() == NodeState::Ready);
                if !ready || task.state() < TaskState::Assigned || task.is_terminal() {
                    continue;
                }
                let to = match task.desired() {
                    TaskState::Ready => TaskState::Ready,
                    TaskState::Running => TaskState::Running,
                    _ => TaskState::Shutdown,
                };
                if to != task.state() {
                    self.report(&task, to);
                    moved = true;
                }
            }
            let said = self.decide();
            lines.push_str(&said);
            if !moved && said.is_empty() {
                return lines;
            }
        }
        panic!("the swarm does not come to rest:\n{lines}");
    }

    pub fn node_state(&mut self, id: &str, state: NodeState) {
        let status = NodeStatus {
            state: state.into(),
            since_ns: self.now,
            ..NodeStatus::default()
        };
        self.apply(vec![Change {
            change: Some(change::Change::Node(NodePatch {
                id: id.to_owned(),
                status: Some(status),
                ..NodePatch::default()
            })),
        }]);
    }

    pub fn node_spec(&mut self, id: &str, with: impl FnOnce(&mut NodeSpec)) {
        let mut node = (**self.world.node(id).unwrap()).clone();
        with(node.spec.get_or_insert_default());
        self.put(node);
    }

    pub fn availability(&mut self, id: &str, availability: Availability) {
        self.node_spec(id, |s| s.availability = availability.into());
    }

    /// `1 n2 running/running`, a line per record.
    pub fn show(&self, service: &str) -> String {
        let line = |t: &Task| {
            format!(
                "{} {} {}/{}",
                t.slot,
                t.node_id,
                t.desired().word(),
                t.state().word()
            )
        };
        self.tasks(service)
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Live tasks per node, sorted: `[2, 2, 1]`.
    pub fn spread(&self, service: &str) -> Vec<usize> {
        let live = self.live(service);
        let mut counts: Vec<usize> = self
            .world
            .nodes()
            .map(|n| live.iter().filter(|t| t.node_id == n.id()).count())
            .collect();
        counts.sort_by(|a, b| b.cmp(a));
        counts
    }
}

pub(super) fn meta(id: &str) -> Meta {
    Meta {
        id: id.to_owned(),
        ..Meta::default()
    }
}

pub(super) fn node(id: &str) -> Node {
    Node {
        meta: Some(meta(id)),
        spec: Some(NodeSpec::default()),
        description: Some(NodeDescription {
            hostname: id.to_owned(),
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
        status: Some(NodeStatus {
            state: NodeState::Ready.into(),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

pub(super) fn global(spec: &mut ServiceSpec) {
    spec.mode = Some(Mode::Global(Global {}));
}

pub(super) fn placement(spec: &mut ServiceSpec) -> &mut Placement {
    spec.task
        .get_or_insert_default()
        .placement
        .get_or_insert_default()
}

pub(super) fn policy(spec: &mut ServiceSpec) -> &mut RestartPolicy {
    spec.task
        .get_or_insert_default()
        .restart
        .get_or_insert_default()
}

fn template(version: u64, spec: &ServiceSpec) -> Template {
    Template {
        version,
        task: spec.task.clone(),
        endpoint: spec.endpoint.clone(),
    }
}

//! One history: a time of faults, then a time to heal.

use std::collections::BTreeMap;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Meta, Node, NodeDescription, NodeLost, NodeSeen, NodeSpec, NodeState, Platform,
    RegisterNode, RemoveNode, ReportStatuses, Resources, TaskState, UpdateNode,
    write_request::Verb,
};

use crate::operator;
use crate::swarm::{Dice, SECOND, Swarm};
use crate::worker::Worker;

const STEPS: u64 = 40;
const NODES: u64 = 4;
/// Steps of a quarter of a second in which a swarm without faults must be well.
const HEAL_STEPS_MAX: u32 = 1_200;

pub fn run(seed: u64) {
    let mut history = History::new(seed);
    for _ in 0..STEPS {
        history.step();
    }
    history.heal();
}

struct History {
    dice: Dice,
    swarm: Swarm,
    workers: BTreeMap<String, Worker>,
    joined: u64,
}

fn node_id(n: u64) -> String {
    format!("{n:0>25}")
}

impl History {
    fn new(seed: u64) -> Self {
        let mut history = Self {
            dice: Dice::new(seed),
            swarm: Swarm::new(seed),
            workers: BTreeMap::new(),
            joined: 0,
        };
        for _ in 0..NODES {
            history.join();
        }
        history
    }

    fn join(&mut self) {
        self.joined += 1;
        let id = node_id(self.joined);
        let description = NodeDescription {
            hostname: format!("n{}", self.joined),
            platform: Some(Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            }),
            resources: Some(Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 4 << 30,
            }),
            ..NodeDescription::default()
        };
        let node = Node {
            meta: Some(Meta {
                id: id.clone(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec::default()),
            description: Some(description),
            ..Node::default()
        };
        self.swarm.commit(
            vec![Verb::RegisterNode(RegisterNode { node: Some(node) })],
            false,
        );
        assert!(self.swarm.world.node(&id).is_some(), "a node may join");
        self.workers.insert(id.clone(), Worker::default());
        let seen = self.seen(&id);
        self.swarm.commit(vec![seen], false);
    }

    fn seen(&mut self, id: &str) -> Verb {
        let now = self.swarm.now;
        let worker = self.workers.entry(id.to_owned()).or_default();
        worker.connected = true;
        Verb::NodeSeen(NodeSeen {
            node_id: id.to_owned(),
            addr: "10.0.0.1".to_owned(),
            description: None,
            running: worker.reports(now, true),
        })
    }

    fn lost(&mut self, id: &str, state: NodeState) -> Verb {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.connected = false;
        }
        Verb::NodeLost(NodeLost {
            node_ids: vec![id.to_owned()],
            state: state.into(),
            message: "simulated".to_owned(),
        })
    }

    fn step(&mut self) {
        self.swarm.now += SECOND / 4 * i64::try_from(1 + self.dice.roll(8)).unwrap();
        let mut verbs = Vec::new();
        if self.dice.percent(40) {
            verbs.extend(operator::act(&self.swarm.world, &mut self.dice));
        }
        if self.dice.percent(25) {
            verbs.extend(self.trouble());
        }
        self.work(5);
        verbs.extend(self.reports());
        let lost = self.dice.percent(4);
        self.swarm.commit(verbs, lost);
        self.workers
            .retain(|id, _| self.swarm.world.node(id).is_some());
        if lost {
            self.workers.values_mut().for_each(Worker::forget_said);
        } else if self.dice.percent(8) {
            self.swarm.elect();
        }
    }

    /// Something happens to a node.
    fn trouble(&mut self) -> Option<Verb> {
        let ids: Vec<String> = self.workers.keys().cloned().collect();
        let id = self.dice.pick(&ids)?.clone();
        let state = self.swarm.world.node(&id)?.state();
        match (self.dice.roll(8), state) {
            (0 | 1, NodeState::Ready) => Some(self.lost(&id, NodeState::Suspect)),
            (2, NodeState::Ready | NodeState::Suspect | NodeState::Unknown) => {
                Some(self.lost(&id, NodeState::Down))
            }
            (3, NodeState::Ready) => Some(self.lost(&id, NodeState::Unknown)),
            (4, _) => {
                self.workers.get_mut(&id)?.reboot();
                None
            }
            (5, NodeState::Down) if ids.len() as u64 > NODES - 1 => {
                Some(Verb::RemoveNode(RemoveNode {
                    node: id,
                    force: true,
                }))
            }
            (6, _) if (ids.len() as u64) < NODES + 1 => {
                self.join();
                None
            }
            (_, NodeState::Suspect | NodeState::Unknown | NodeState::Down) => Some(self.seen(&id)),
            _ => None,
        }
    }

    fn work(&mut self, failing: u32) {
        for (id, worker) in &mut self.workers {
            if worker.connected {
                worker.assign(&self.swarm.world, id);
            }
            worker.work(&mut self.dice, failing);
        }
    }

    fn reports(&mut self) -> Vec<Verb> {
        let now = self.swarm.now;
        let mut verbs = Vec::new();
        for (id, worker) in self.workers.iter_mut().filter(|(_, w)| w.connected) {
            let reports = worker.reports(now, false);
            if !reports.is_empty() {
                verbs.push(Verb::ReportStatuses(ReportStatuses {
                    node_id: id.clone(),
                    reports,
                }));
            }
        }
        verbs
    }

    /// The faults end.
    fn heal(&mut self) {
        let ids: Vec<String> = self.workers.keys().cloned().collect();
        let mut verbs = Vec::new();
        for id in ids {
            verbs.push(self.seen(&id));
        }
        for node in self.swarm.world.nodes() {
            let mut spec = node.spec.clone().unwrap_or_default();
            spec.availability = Availability::Active.into();
            let (node, version) = (node.id().to_owned(), node.meta().version);
            verbs.push(Verb::UpdateNode(UpdateNode {
                node,
                version,
                spec: Some(spec),
            }));
        }
        for service in self.swarm.world.services() {
            let spec = operator::modest(&service.spec.clone().unwrap_or_default());
            verbs.push(operator::update(service, Some(spec)));
        }
        self.swarm.commit(verbs, false);
        // A worker may idle for a step or two; not all of them for so many.
        let mut quiet = 0;
        for _ in 0..HEAL_STEPS_MAX {
            self.swarm.now += SECOND / 4;
            self.work(0);
            let verbs = self.reports();
            let said = !verbs.is_empty();
            let decided = self.swarm.commit(verbs, false);
            let rests = !said && !decided && self.swarm.wake_at.is_none();
            quiet = if rests { quiet + 1 } else { 0 };
            if quiet > 20 {
                break;
            }
        }
        self.well();
        self.swarm.now += 3_600 * SECOND;
        assert!(
            !self.swarm.commit(Vec::new(), false),
            "it is quiet for an hour"
        );
        self.swarm.elect();
    }

    /// Everything runs, once.
    fn well(&self) {
        let world = &self.swarm.world;
        let mut expected = 0;
        for service in world.services() {
            let wanted = if service.is_global() {
                u64::try_from(world.node_count()).unwrap()
            } else {
                service.replicas()
            };
            expected += wanted;
            let live: Vec<_> = world
                .tasks_of_service(service.id())
                .filter(|t| t.is_live())
                .collect();
            let running = live
                .iter()
                .filter(|t| t.state() == TaskState::Running)
                .count() as u64;
            let show = || {
                world
                    .tasks_of_service(service.id())
                    .map(|t| {
                        format!(
                            "{} {:?}/{:?} {:?}",
                            t.name(),
                            t.desired(),
                            t.state(),
                            t.verdict
                        )
                    })
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert_eq!(
                running,
                wanted,
                "{} runs\n{}\n{:?}",
                service.name(),
                show(),
                service.update_status
            );
            assert_eq!(live.len() as u64, wanted, "{}", show());
            assert!(
                live.iter()
                    .all(|t| t.template_version == service.template_version)
            );
        }
        let containers: usize = self.workers.values().map(|w| w.running().count()).sum();
        assert_eq!(containers as u64, expected, "containers that run");
        assert_eq!(self.swarm.wake_at, None, "nothing is waited for");
    }
}

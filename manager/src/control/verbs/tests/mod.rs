//! Rules of the verbs, on worlds made by the verbs themselves.

mod cluster;
mod node;
mod service;
mod session;
mod with_engine;

use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;

use super::*;
use crate::identity::trust_digest;
use crate::state::cluster as rules;
pub(in crate::control) use crate::state::service::tests::{container, spec};

pub(in crate::control) const NODE: &str = "node1";
const NOW: Nanos = 1_000_000_000_000;

/// A world that is changed by verbs only, and its clock.
pub(in crate::control) struct Swarm {
    pub(in crate::control) world: World,
    pub(in crate::control) now: Nanos,
}

impl Swarm {
    /// Founded, with `node1` as its manager.
    pub(in crate::control) fn founded() -> Self {
        let mut swarm = Self {
            world: World::default(),
            now: NOW,
        };
        swarm.ok(Verb::InitCluster(init_cluster()));
        swarm
    }

    pub(in crate::control) fn run(&mut self, verb: Verb) -> Result<WriteResponse> {
        self.now += 1_000_000;
        let request = WriteRequest {
            verb: Some(verb),
            ..WriteRequest::default()
        };
        let seed = Seed(self.world.version() + 1);
        let execution = execute(&self.world, &request, self.now, seed)?;
        if !execution.changes.is_empty() {
            self.world.apply(&Transaction {
                at_ns: self.now,
                changes: execution.changes,
                outcomes: Vec::new(),
            });
            assert_eq!(execution.response.version, self.world.version());
        }
        Ok(execution.response)
    }

    #[track_caller]
    pub(in crate::control) fn ok(&mut self, verb: Verb) -> WriteResponse {
        self.run(verb).unwrap()
    }

    #[track_caller]
    pub(in crate::control) fn err(&mut self, verb: Verb) -> Error {
        let before = self.world.version();
        let error = self.run(verb).unwrap_err();
        assert_eq!(self.world.version(), before);
        error
    }

    pub(in crate::control) fn service(&self, name: &str) -> Service {
        (**self.world.service_named(name).unwrap()).clone()
    }

    pub(in crate::control) fn node(&self, id: &str) -> Node {
        (**self.world.node(id).unwrap()).clone()
    }

    pub(in crate::control) fn cluster(&self) -> Cluster {
        (**self.world.cluster().unwrap()).clone()
    }

    pub(in crate::control) fn task(&self, id: &str) -> Task {
        (**self.world.task(id).unwrap()).clone()
    }

    /// As the engine would: a task of `service` on `node`.
    pub(in crate::control) fn place(
        &mut self,
        id: &str,
        service: &str,
        slot: u64,
        node: &str,
        state: TaskState,
    ) {
        let service = self.service(service);
        let task = Task {
            meta: Some(Meta {
                id: id.to_owned(),
                ..Meta::default()
            }),
            service_id: service.id().to_owned(),
            service_name: service.name().to_owned(),
            slot,
            node_id: node.to_owned(),
            template_version: service.template_version,
            desired: TaskState::Running.into(),
            status: Some(TaskStatus {
                state: state.into(),
                ..TaskStatus::default()
            }),
            ..Task::default()
        };
        self.world.apply(&Transaction {
            at_ns: self.now,
            changes: vec![put(task)],
            outcomes: Vec::new(),
        });
    }

    pub(in crate::control) fn join(&mut self, id: &str, role: Role) {
        self.ok(Verb::RegisterNode(RegisterNode {
            node: Some(joiner(id, role)),
        }));
    }
}

use skep_proto::objects::Identified;

pub(in crate::control) fn joiner(id: &str, role: Role) -> Node {
    Node {
        meta: Some(Meta {
            id: id.to_owned(),
            ..Meta::default()
        }),
        spec: Some(NodeSpec {
            role: role.into(),
            ..NodeSpec::default()
        }),
        description: Some(NodeDescription {
            hostname: format!("host-{id}"),
            ..NodeDescription::default()
        }),
        cert_not_after_ns: NOW + 5,
        ..Node::default()
    }
}

fn root(name: &str) -> RootCa {
    let cert_pem = format!("-----BEGIN CERTIFICATE-----{name}").into_bytes();
    RootCa {
        digest: skep_proto::token::root_digest(&cert_pem),
        cert_pem,
        key_pem: b"-----BEGIN PRIVATE KEY-----".to_vec(),
        ..RootCa::default()
    }
}

fn tokens(root: &RootCa) -> JoinTokens {
    JoinTokens {
        worker: rules::join_token("", &root.digest, &"w".repeat(25)).unwrap(),
        manager: rules::join_token("", &root.digest, &"m".repeat(25)).unwrap(),
    }
}

pub(in crate::control) fn init_cluster() -> InitCluster {
    let root = root("one");
    InitCluster {
        cluster: Some(Cluster {
            meta: Some(Meta {
                id: "cluster1".to_owned(),
                ..Meta::default()
            }),
            join_tokens: Some(tokens(&root)),
            root_ca: Some(root),
            ..Cluster::default()
        }),
        node: Some(joiner(NODE, Role::Worker)),
    }
}

pub(in crate::control) fn create(spec: ServiceSpec) -> Verb {
    Verb::CreateService(CreateService { spec: Some(spec) })
}

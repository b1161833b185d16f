//! Rules of reading, on a small swarm: web (2 replicas) and db on two nodes.

use skep_proto::Code;
use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;

use super::{EventFilter, View, events, get, leader_events, list};
use crate::control::resolve;
use crate::control::verbs::tests::{NODE, Swarm, container, create, spec};
use crate::state::Applied;

fn swarm() -> Swarm {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    let labelled = |key: &str| [(key.to_owned(), "x".to_owned())].into();
    swarm.ok(create(ServiceSpec {
        labels: labelled("tier"),
        ..spec("web")
    }));
    swarm.ok(create(
        ServiceSpec {
            mode: Some(service_spec::Mode::Global(Global {})),
            ..container(|c| c.registry_auth = "eyJhIjoiYiJ9".to_owned())
        }
        .named("db"),
    ));
    swarm.place("t1", "web", 1, NODE, TaskState::Failed);
    swarm.place("t2", "web", 1, "n2", TaskState::Running);
    swarm.place("t3", "web", 2, NODE, TaskState::Running);
    swarm.place("u1", "db", 0, "n2", TaskState::Running);
    swarm
}

trait Named {
    fn named(self, name: &str) -> Self;
}

impl Named for ServiceSpec {
    fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }
}

fn view() -> View {
    View {
        self_node_id: NODE.to_owned(),
        leader: Some(7),
        reachability: [(7, Reachability::Reachable)].into(),
    }
}

fn terms(filters: &[(&str, &str)]) -> Vec<FilterTerm> {
    let term = |(key, value): &(&str, &str)| FilterTerm {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    filters.iter().map(term).collect()
}

fn ask(swarm: &Swarm, kind: Kind, filters: &[(&str, &str)]) -> skep_proto::Result<Vec<String>> {
    let request = ListRequest {
        kind: kind.into(),
        filters: terms(filters),
    };
    let response = list(&swarm.world, &view(), &request)?;
    assert_eq!(response.version, swarm.world.version());
    let name = |object: &Object| match &object.object {
        Some(object::Object::Service(service)) => service.name().to_owned(),
        _ => object.id().to_owned(),
    };
    Ok(response.objects.iter().map(name).collect())
}

#[track_caller]
fn finds(kind: Kind, filters: &[(&str, &str)], expected: &[&str]) {
    let mut found = ask(&swarm(), kind, filters).unwrap();
    found.sort();
    assert_eq!(found, expected, "{filters:?}");
}

#[test]
fn nodes_are_filtered_by_swarms_keys() {
    finds(Kind::Node, &[], &["n2", NODE]);
    finds(Kind::Node, &[("id", "n2")], &["n2"]);
    finds(Kind::Node, &[("name", "HOST-n")], &["n2", NODE]);
    finds(Kind::Node, &[("role", "Manager")], &[NODE]);
    finds(
        Kind::Node,
        &[("role", "manager"), ("role", "worker")],
        &["n2", NODE],
    );
    finds(Kind::Node, &[("membership", "pending")], &[]);
    finds(Kind::Node, &[("label", "a")], &[]);
    finds(Kind::Node, &[("node.label", "a")], &[]);
}

#[test]
fn services_are_filtered_by_swarms_keys() {
    finds(Kind::Service, &[("name", "W")], &["web"]);
    finds(Kind::Service, &[("mode", "global")], &["db"]);
    finds(Kind::Service, &[("mode", "replicated-job")], &[]);
    finds(Kind::Service, &[("label", "tier")], &["web"]);
    finds(Kind::Service, &[("label", "tier=x")], &["web"]);
    finds(
        Kind::Service,
        &[("label", "tier=x"), ("label", "tier=y")],
        &[],
    );
    finds(Kind::Service, &[("runtime", "plugin")], &[]);
    finds(
        Kind::Service,
        &[("name", "web"), ("name", "db")],
        &["db", "web"],
    );
}

#[test]
fn tasks_are_filtered_by_swarms_keys() {
    finds(Kind::Task, &[], &["t1", "t2", "t3", "u1"]);
    finds(Kind::Task, &[("service", "web")], &["t1", "t2", "t3"]);
    finds(Kind::Task, &[("node", "host-n2")], &["t2", "u1"]);
    finds(
        Kind::Task,
        &[("node", "self"), ("service", "web")],
        &["t1", "t3"],
    );
    finds(Kind::Task, &[("name", "web.1")], &["t1", "t2"]);
    finds(Kind::Task, &[("label", "tier=x")], &["t1", "t2", "t3"]);
    finds(
        Kind::Task,
        &[("desired-state", "running")],
        &["t1", "t2", "t3", "u1"],
    );
    finds(Kind::Task, &[("desired-state", "shutdown")], &[]);
    finds(
        Kind::Task,
        &[("_up-to-date", "true")],
        &["t1", "t2", "t3", "u1"],
    );
    finds(Kind::Task, &[("_up-to-date", "false")], &[]);
    finds(
        Kind::Task,
        &[("id", "t"), ("id", "u")],
        &["t1", "t2", "t3", "u1"],
    );
}

#[test]
fn an_unknown_filter_names_the_known_ones() {
    let error = ask(&swarm(), Kind::Task, &[("colour", "red")]).unwrap_err();
    assert_eq!(
        (error.code(), error.message.as_str()),
        (Code::Invalid, "invalid filter 'colour'")
    );
    assert!(error.hint.contains("desired-state") && !error.hint.contains("_up-to-date"));
    for (kind, filter) in [
        (Kind::Node, ("role", "king")),
        (Kind::Service, ("mode", "some")),
        (Kind::Task, ("desired-state", "well")),
        (Kind::Cluster, ("id", "x")),
    ] {
        assert_eq!(
            ask(&swarm(), kind, &[filter]).unwrap_err().code(),
            Code::Invalid
        );
    }
    for filter in [("service", "nope"), ("node", "nope")] {
        assert_eq!(
            ask(&swarm(), Kind::Task, &[filter]).unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(
        ask(&swarm(), Kind::Unspecified, &[]).unwrap_err().field,
        "kind"
    );
}

#[test]
fn tasks_of_a_service_that_is_gone_are_found_by_its_id() {
    let mut swarm = swarm();
    let id = swarm.service("web").id().to_owned();
    swarm.ok(Verb::RemoveService(RemoveService {
        service: "web".to_owned(),
    }));
    assert_eq!(
        ask(&swarm, Kind::Task, &[("service", &id)]).unwrap().len(),
        3
    );
}

#[test]
fn a_reference_is_an_id_a_name_or_the_beginning_of_one_id() {
    let swarm = swarm();
    let web = swarm.service("web").id().to_owned();
    for reference in [web.as_str(), "web", "WEB", &web[..12]] {
        assert_eq!(resolve::service(&swarm.world, reference).unwrap().id(), web);
    }
    let code = |result: skep_proto::Result<_>| {
        result
            .map(|_: &std::sync::Arc<Node>| ())
            .unwrap_err()
            .code()
    };
    assert_eq!(code(resolve::node(&swarm.world, "n")), Code::Ambiguous);
    assert_eq!(code(resolve::node(&swarm.world, "x")), Code::NotFound);
    assert_eq!(code(resolve::node(&swarm.world, "")), Code::Invalid);
    let error = resolve::node(&swarm.world, "n").unwrap_err();
    assert!(
        error.message.contains("(2 matches found)") && error.message.contains("host-n2"),
        "{error}"
    );
    assert_eq!(resolve::node(&swarm.world, "HOST-N2").unwrap().id(), "n2");
    assert_eq!(
        resolve::task(&swarm.world, "web.1").unwrap().id(),
        "t2",
        "not the one that failed"
    );
    assert_eq!(resolve::task(&swarm.world, "web.1.t1").unwrap().id(), "t1");
    assert_eq!(resolve::task(&swarm.world, "db.n2").unwrap().id(), "u1");
    assert!(resolve::task(&swarm.world, "web.9").is_err());
}

#[test]
fn what_is_read_has_no_secret_and_shows_who_leads() {
    let mut swarm = swarm();
    swarm.ok(Verb::SetManager(SetManager {
        node_id: NODE.to_owned(),
        manager: Some(ManagerStatus {
            raft_id: 7,
            addr: "a:1".to_owned(),
            ..ManagerStatus::default()
        }),
    }));
    let read = |kind: Kind, reference: &str| {
        let request = GetRequest {
            kind: kind.into(),
            reference: reference.to_owned(),
        };
        get(&swarm.world, &view(), &request).unwrap()
    };
    let Some(object::Object::Node(node)) = read(Kind::Node, "self").object else {
        panic!()
    };
    let manager = node.manager.unwrap();
    assert_eq!(
        (manager.leader, manager.reachability()),
        (true, Reachability::Reachable)
    );
    let Some(object::Object::Cluster(cluster)) = read(Kind::Cluster, "").object else {
        panic!()
    };
    assert!(cluster.root_ca.unwrap().key_pem.is_empty());
    assert!(!cluster.join_tokens.unwrap().worker.is_empty());
    assert!(!format!("{:?}", read(Kind::Service, "db")).contains("eyJhIjoiYiJ9"));
}

/// Applies what the verb does and returns the events of it.
fn events_of(swarm: &mut Swarm, verb: Verb) -> Vec<Event> {
    let applied = applied_by(swarm, verb);
    events(&applied).map(|h| h.event).collect()
}

fn applied_by(swarm: &mut Swarm, verb: Verb) -> Applied {
    let request = WriteRequest {
        verb: Some(verb),
        ..WriteRequest::default()
    };
    let seed = crate::state::Seed(99);
    let execution = crate::control::execute(&swarm.world, &request, swarm.now, seed).unwrap();
    swarm.world.apply(&Transaction {
        at_ns: swarm.now,
        changes: execution.changes,
        outcomes: vec![],
    })
}

fn attribute<'a>(event: &'a Event, key: &str) -> &'a str {
    event.attributes.get(key).map_or("-", String::as_str)
}

#[test]
fn an_event_says_what_changed_from_what_to_what() {
    let mut swarm = swarm();
    let update = Verb::UpdateService(UpdateService {
        service: "web".to_owned(),
        version: swarm.service("web").meta().version,
        spec: Some(ServiceSpec {
            mode: Some(service_spec::Mode::Replicated(Replicated { replicas: 4 })),
            ..container(|c| c.image = "alpine:9".to_owned())
        }),
        rollback: false,
    });
    let [event] = events_of(&mut swarm, update).try_into().unwrap();
    assert_eq!(
        (event.kind(), event.action()),
        (Kind::Service, event::Action::Update)
    );
    assert_eq!(
        (attribute(&event, "name"), attribute(&event, "image.old")),
        ("web", "alpine:3")
    );
    assert_eq!(
        (
            attribute(&event, "replicas.new"),
            attribute(&event, "updatestate.new")
        ),
        ("4", "-")
    );
    assert_eq!(event.version, swarm.world.version());

    let seen = Verb::NodeSeen(NodeSeen {
        node_id: "n2".to_owned(),
        ..NodeSeen::default()
    });
    let [event] = events_of(&mut swarm, seen.clone()).try_into().unwrap();
    assert_eq!(
        (
            attribute(&event, "state.old"),
            attribute(&event, "state.new")
        ),
        ("unknown", "ready")
    );
    assert!(events_of(&mut swarm, seen).is_empty());

    let removed = events_of(
        &mut swarm,
        Verb::RemoveService(RemoveService {
            service: "db".to_owned(),
        }),
    );
    assert_eq!(removed[0].action(), event::Action::Remove);
    assert_eq!(attribute(&removed[0], "name"), "db");
}

#[test]
fn a_watcher_gets_what_it_asked_for_in_order() {
    let swarm = swarm();
    let wanted = |filters: &[(&str, &str)], tasks: bool, swarm: &mut Swarm, verb: Verb| {
        let filter = EventFilter::new(&swarm.world, NODE, &terms(filters), tasks).unwrap();
        let applied = applied_by(swarm, verb);
        let kept = events(&applied)
            .filter(|h| filter.wants(h))
            .map(|h| h.event.id);
        kept.collect::<Vec<_>>()
    };
    // The removal of a node changes its tasks, the node, and the cluster.
    let removed = |filters: &[(&str, &str)], tasks: bool| {
        let mut swarm = Swarm {
            world: swarm.world.clone(),
            now: swarm.now,
        };
        let verb = Verb::RemoveNode(RemoveNode {
            node: "n2".to_owned(),
            force: true,
        });
        wanted(filters, tasks, &mut swarm, verb)
    };
    assert_eq!(removed(&[], false), ["n2"]);
    assert_eq!(removed(&[], true), ["t2", "u1", "n2"]);
    assert_eq!(removed(&[("type", "task")], false), ["t2", "u1"]);
    assert_eq!(removed(&[("service", "web")], true), ["t2"]);
    assert_eq!(removed(&[("node", "host-n2")], true), ["t2", "u1", "n2"]);
    assert_eq!(removed(&[("node", "self")], true), [""; 0]);
    assert_eq!(removed(&[("event", "create")], true), [""; 0]);
    assert_eq!(removed(&[("event", "remove")], true), ["n2"]);
    assert_eq!(removed(&[("type", "service")], true), [""; 0]);
    assert_eq!(removed(&[("label", "a")], true), [""; 0]);
    let bad = EventFilter::new(&swarm.world, NODE, &terms(&[("type", "volume")]), false);
    assert_eq!(bad.unwrap_err().code(), Code::Invalid);
}

#[test]
fn another_leader_is_news_of_both_nodes() {
    let swarm = swarm();
    let news: Vec<Event> = leader_events(&swarm.world, NODE, "n2", 5)
        .into_iter()
        .map(|h| h.event)
        .collect();
    assert_eq!(news.len(), 2);
    assert_eq!(
        (news[0].id.as_str(), attribute(&news[0], "leader.new")),
        (NODE, "false")
    );
    assert_eq!(
        (news[1].id.as_str(), attribute(&news[1], "leader.new")),
        ("n2", "true")
    );
    assert!(leader_events(&swarm.world, "n2", "n2", 5).is_empty());
}

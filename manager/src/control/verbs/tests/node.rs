use super::*;
use skep_proto::Code;

fn update(swarm: &Swarm, id: &str, edit: impl FnOnce(&mut NodeSpec)) -> Verb {
    let node = swarm.node(id);
    let mut spec = node.spec.clone().unwrap();
    edit(&mut spec);
    Verb::UpdateNode(UpdateNode {
        node: id.to_owned(),
        version: node.meta().version,
        spec: Some(spec),
    })
}

fn demote(spec: &mut NodeSpec) {
    spec.role = Role::Worker.into();
}

fn promote(spec: &mut NodeSpec) {
    spec.role = Role::Manager.into();
}

fn issued(swarm: &Swarm, id: &str, role: Role, not_after_ns: Nanos) -> Verb {
    let trust = trust_digest(&swarm.cluster());
    Verb::CertificateIssued(CertificateIssued {
        node_id: id.to_owned(),
        not_after_ns,
        role: role.into(),
        trust,
    })
}

fn manager(id: &str, present: bool) -> Verb {
    let manager = present.then(|| ManagerStatus {
        raft_id: 7,
        addr: "10.0.0.7:2377".to_owned(),
        leader: true,
        reachability: 2,
    });
    Verb::SetManager(SetManager {
        node_id: id.to_owned(),
        manager,
    })
}

fn remove(id: &str, force: bool) -> Verb {
    Verb::RemoveNode(RemoveNode {
        node: id.to_owned(),
        force,
    })
}

fn lost(id: &str, state: NodeState) -> Verb {
    Verb::NodeLost(NodeLost {
        node_ids: vec![id.to_owned()],
        state: state.into(),
        message: "gone".to_owned(),
    })
}

fn seen(id: &str) -> Verb {
    Verb::NodeSeen(NodeSeen {
        node_id: id.to_owned(),
        addr: "10.0.0.2".to_owned(),
        ..NodeSeen::default()
    })
}

#[test]
fn a_node_registers_once_and_keeps_what_the_operator_wants_when_it_asks_again() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    assert_eq!(swarm.node("n2").state(), NodeState::Unknown);
    swarm.ok(update(&swarm, "n2", |s| {
        s.availability = Availability::Drain.into()
    }));
    let version = swarm.world.version();
    swarm.join("n2", Role::Manager);
    assert_eq!(swarm.world.version(), version, "nothing new was said");
    let node = swarm.node("n2");
    assert_eq!(
        (node.availability(), node.role()),
        (Availability::Drain, Role::Worker)
    );
    let unnamed = Verb::RegisterNode(RegisterNode {
        node: Some(joiner("", Role::Worker)),
    });
    assert_eq!(swarm.err(unnamed).field, "node.meta.id");
}

#[test]
fn a_nodes_spec_is_guarded_by_its_version_and_not_by_its_status() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    let drain = update(&swarm, "n2", |s| {
        s.availability = Availability::Drain.into()
    });
    swarm.ok(seen("n2"));
    swarm.ok(drain.clone());
    assert_eq!(swarm.err(drain).code(), Code::OutOfSequence);
    let bad = update(&swarm, "n2", |s| s.availability = 9);
    assert_eq!(swarm.err(bad).field, "availability");
}

#[test]
fn a_nodes_name_belongs_to_one_node() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    let taken = update(&swarm, "n2", |s| s.name = format!("HOST-{NODE}"));
    assert_eq!(swarm.err(taken).code(), Code::Exists);
    swarm.ok(update(&swarm, "n2", |s| s.name = "edge".to_owned()));
    swarm.ok(Verb::RemoveNode(RemoveNode {
        node: "Edge".to_owned(),
        force: true,
    }));
}

#[test]
fn the_last_manager_is_not_demoted() {
    let mut swarm = Swarm::founded();
    let error = swarm.err(update(&swarm, NODE, demote));
    assert_eq!(error.code(), Code::Precondition);
    assert_eq!(
        error.message,
        "attempting to demote the last manager of the swarm"
    );
    swarm.join("n2", Role::Manager);
    swarm.ok(update(&swarm, NODE, demote));
    assert!(swarm.run(update(&swarm, "n2", demote)).is_err());
}

#[test]
fn a_role_is_what_the_newest_certificate_says() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    let early = issued(&swarm, "n2", Role::Manager, NOW + 1);
    assert_eq!(
        swarm.err(early).code(),
        Code::Precondition,
        "nobody wants it to be one"
    );
    swarm.ok(update(&swarm, "n2", promote));
    assert_eq!(swarm.node("n2").role(), Role::Worker, "wanted, but not yet");
    swarm.ok(issued(&swarm, "n2", Role::Manager, NOW + 100));
    assert_eq!(swarm.node("n2").role(), Role::Manager);
    swarm.ok(manager("n2", true));
    let stored = swarm.node("n2").manager.unwrap();
    assert_eq!(
        (stored.leader, stored.reachability),
        (false, 0),
        "only what is not seen by looking"
    );
    swarm.ok(update(&swarm, "n2", demote));
    swarm.ok(issued(&swarm, "n2", Role::Manager, NOW + 200));
    swarm.ok(manager("n2", false));
    assert_eq!(swarm.node("n2").manager, None);
    assert_eq!(swarm.node("n2").role(), Role::Manager, "until it renews");
    swarm.ok(issued(&swarm, "n2", Role::Worker, NOW + 150));
    assert_eq!(swarm.node("n2").role(), Role::Worker);
    assert_eq!(
        swarm.node("n2").cert_not_after_ns,
        NOW + 200,
        "the older one is refused until its end too"
    );
}

#[test]
fn a_certificate_for_roots_of_yesterday_is_not_handed_out() {
    let mut swarm = Swarm::founded();
    let Verb::CertificateIssued(mut verb) = issued(&swarm, NODE, Role::Manager, NOW + 1) else {
        panic!()
    };
    verb.trust = "other".to_owned();
    assert_eq!(
        swarm.err(Verb::CertificateIssued(verb)).code(),
        Code::Precondition
    );
}

#[test]
fn a_manager_is_demoted_before_it_is_removed() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Manager);
    swarm.ok(manager("n2", true));
    assert_eq!(swarm.err(remove("n2", true)).code(), Code::Precondition);
    swarm.ok(update(&swarm, "n2", demote));
    assert_eq!(swarm.err(remove("n2", true)).code(), Code::Precondition);
    swarm.ok(manager("n2", false));
    swarm.ok(remove("n2", true));
}

#[test]
fn a_node_that_lives_is_removed_by_force_only() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    swarm.ok(seen("n2"));
    assert!(swarm.err(remove("n2", false)).hint.contains("--force"));
    swarm.ok(lost("n2", NodeState::Suspect));
    assert_eq!(swarm.err(remove("n2", false)).code(), Code::Precondition);
    swarm.ok(lost("n2", NodeState::Down));
    swarm.ok(remove("n2", false));
    assert_eq!(swarm.err(remove("n2", false)).code(), Code::NotFound);
}

#[test]
fn a_removed_nodes_tasks_are_orphans_and_its_certificate_is_refused() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    swarm.ok(issued(&swarm, "n2", Role::Worker, NOW + 500));
    swarm.ok(create(spec("web")));
    swarm.place("t1", "web", 1, "n2", TaskState::Running);
    swarm.place("t2", "web", 2, "n2", TaskState::Failed);
    swarm.ok(remove("n2", true));
    assert_eq!(swarm.task("t1").state(), TaskState::Orphaned);
    assert_eq!(
        swarm.task("t2").state(),
        TaskState::Failed,
        "it had ended by itself"
    );
    let removed = swarm.cluster().removed_nodes;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].node_id, "n2");
    assert!(removed[0].until_ns > NOW + 500);
    for verb in [
        Verb::RegisterNode(RegisterNode {
            node: Some(joiner("n2", Role::Worker)),
        }),
        issued(&swarm, "n2", Role::Worker, NOW + 900),
        seen("n2"),
    ] {
        assert_eq!(swarm.err(verb).code(), Code::Permission);
    }
}

#[test]
fn refusals_are_forgotten_once_the_certificate_cannot_be_shown() {
    let mut swarm = Swarm::founded();
    swarm.join("n2", Role::Worker);
    swarm.join("n3", Role::Worker);
    swarm.ok(remove("n2", true));
    swarm.now = swarm.cluster().removed_nodes[0].until_ns;
    swarm.ok(remove("n3", true));
    let ids: Vec<String> = swarm
        .cluster()
        .removed_nodes
        .into_iter()
        .map(|r| r.node_id)
        .collect();
    assert_eq!(ids, ["n3"]);
}

#[test]
fn a_manager_that_is_gone_has_left_already() {
    let mut swarm = Swarm::founded();
    swarm.ok(manager("nobody", false));
    assert_eq!(swarm.err(manager("nobody", true)).code(), Code::NotFound);
}

use super::*;
use skep_proto::Code;

fn update(swarm: &Swarm, edit: impl FnOnce(&mut UpdateCluster)) -> Verb {
    let mut verb = UpdateCluster {
        version: swarm.cluster().meta().version,
        ..UpdateCluster::default()
    };
    edit(&mut verb);
    Verb::UpdateCluster(verb)
}

#[test]
fn a_swarm_is_founded_once_with_its_first_manager() {
    let mut swarm = Swarm::founded();
    let node = swarm.node(NODE);
    assert_eq!(node.role(), Role::Manager);
    assert_eq!(node.spec.unwrap().role(), Role::Manager);
    assert_eq!(swarm.cluster().spec.unwrap().name, "default");
    assert_eq!(
        swarm.err(Verb::InitCluster(init_cluster())).code(),
        Code::Exists
    );
}

#[test]
fn a_swarm_is_not_founded_without_a_root_its_tokens_and_sound_ids() {
    type Break = fn(&mut InitCluster);
    let broken: [(&str, Break); 6] = [
        ("cluster", |v| v.cluster = None),
        ("node", |v| v.node = None),
        ("root_ca", |v| v.cluster.as_mut().unwrap().root_ca = None),
        ("join_tokens.worker", |v| {
            v.cluster
                .as_mut()
                .unwrap()
                .join_tokens
                .as_mut()
                .unwrap()
                .worker
                .clear()
        }),
        ("cluster.meta.id", |v| {
            v.cluster.as_mut().unwrap().meta = None
        }),
        ("node.meta.id", |v| {
            v.node.as_mut().unwrap().meta.as_mut().unwrap().id = "A/b".to_owned()
        }),
    ];
    for (field, breaks) in broken {
        let mut verb = init_cluster();
        breaks(&mut verb);
        let mut swarm = Swarm {
            world: World::default(),
            now: NOW,
        };
        assert_eq!(swarm.err(Verb::InitCluster(verb)).field, field);
    }
}

#[test]
fn the_key_of_the_root_is_never_in_an_answer() {
    let mut swarm = Swarm {
        world: World::default(),
        now: NOW,
    };
    let shown = swarm.ok(Verb::InitCluster(init_cluster()));
    let Some(object::Object::Cluster(cluster)) = shown.object.unwrap().object else {
        panic!()
    };
    assert!(cluster.root_ca.unwrap().key_pem.is_empty());
    assert!(!swarm.cluster().root_ca.unwrap().key_pem.is_empty());
}

#[test]
fn a_token_rotates_to_the_secret_that_the_edge_prepared() {
    let mut swarm = Swarm::founded();
    let before = swarm.cluster().join_tokens.unwrap();
    let error = swarm.err(update(&swarm, |v| v.rotate_worker_token = true));
    assert_eq!(error.field, "worker_token_secret");
    swarm.ok(update(&swarm, |v| {
        v.rotate_worker_token = true;
        v.worker_token_secret = "z".repeat(25);
        v.manager_token_secret = "ignored".to_owned();
    }));
    let after = swarm.cluster().join_tokens.unwrap();
    assert_eq!(
        after.worker,
        format!(
            "SWMTKN-1-{}-{}",
            swarm.cluster().root_ca.unwrap().digest,
            "z".repeat(25)
        )
    );
    assert_eq!(after.manager, before.manager);
}

#[test]
fn a_spec_is_guarded_by_its_version() {
    let mut swarm = Swarm::founded();
    let change = update(&swarm, |v| {
        v.spec = Some(ClusterSpec {
            task_history_limit: Some(2),
            ..ClusterSpec::default()
        });
    });
    swarm.ok(change.clone());
    assert_eq!(swarm.cluster().spec.unwrap().task_history_limit, Some(2));
    assert_eq!(swarm.err(change).code(), Code::OutOfSequence);
    let bad = update(&swarm, |v| {
        v.spec = Some(ClusterSpec {
            name: "other".to_owned(),
            ..ClusterSpec::default()
        });
    });
    assert_eq!(swarm.err(bad).field, "name");
}

fn rotate(root_ca: RootCa, join_tokens: Option<JoinTokens>) -> Verb {
    Verb::RotateRootCa(RotateRootCa {
        root_ca: Some(root_ca),
        join_tokens,
    })
}

#[test]
fn a_root_is_exchanged_in_two_steps_that_part_nobody() {
    let mut swarm = Swarm::founded();
    let one = swarm.cluster().root_ca.unwrap();
    let two = RootCa {
        previous_pem: one.cert_pem.clone(),
        cross_pem: b"-----BEGIN CERTIFICATE-----".to_vec(),
        ..root("two")
    };
    let error = swarm.err(rotate(two.clone(), None));
    assert_eq!(
        error.field, "join_tokens.worker",
        "the old tokens name the old root"
    );
    let abrupt = swarm.err(rotate(root("two"), Some(tokens(&two))));
    assert_eq!(abrupt.code(), Code::Precondition);
    swarm.ok(rotate(two.clone(), Some(tokens(&two))));
    assert_eq!(swarm.cluster().join_tokens, Some(tokens(&two)));
    let three = RootCa {
        previous_pem: two.cert_pem.clone(),
        ..root("three")
    };
    let again = swarm.err(rotate(three.clone(), Some(tokens(&three))));
    assert_eq!(again.code(), Code::Precondition, "one exchange at a time");

    let last = RootCa {
        previous_pem: vec![],
        cross_pem: vec![],
        ..two
    };
    let early = swarm.err(rotate(last.clone(), None));
    assert!(early.message.starts_with("1 nodes do not trust"), "{early}");
    swarm.ok(Verb::CertificateIssued(CertificateIssued {
        node_id: NODE.to_owned(),
        not_after_ns: NOW,
        role: Role::Manager.into(),
        trust: trust_digest(&swarm.cluster()),
    }));
    swarm.ok(rotate(last.clone(), None));
    assert_eq!(swarm.cluster().root_ca, Some(last));
}

use skep_proto::v1::{
    Availability, EndpointSpec, Filter, Kind, LogDriver, Platform, Plugin, PortConfig, PortMode,
    ResourceRequirements, Resources, ServiceSpec, TaskState, Verdict,
};

use crate::engine::testing::{Lab, SECOND, global, placement, policy};

fn reserve_memory(spec: &mut ServiceSpec, bytes: i64) {
    spec.task.get_or_insert_default().resources = Some(ResourceRequirements {
        reservations: Some(Resources {
            memory_bytes: bytes,
            ..Resources::default()
        }),
        ..ResourceRequirements::default()
    });
}

fn host_port(spec: &mut ServiceSpec, port: u32) {
    spec.endpoint = Some(EndpointSpec {
        ports: vec![PortConfig {
            target_port: port,
            published_port: port,
            mode: PortMode::Host.into(),
            ..PortConfig::default()
        }],
    });
}

fn verdict(lab: &Lab, service: &str) -> Verdict {
    let waiting = lab
        .live(service)
        .into_iter()
        .find(|t| t.state() < TaskState::Assigned);
    waiting
        .expect("a task waits")
        .verdict
        .expect("it is told why")
}

#[test]
fn a_verdict_counts_nodes_by_what_is_in_the_way() {
    let mut lab = Lab::new(6);
    for id in ["n1", "n2", "n3"] {
        lab.node_spec(id, |s| drop(s.labels.insert("zone".into(), "us".into())));
    }
    for id in ["n4", "n5", "n6"] {
        lab.node_spec(id, |s| drop(s.labels.insert("zone".into(), "eu".into())));
    }
    lab.availability("n4", Availability::Drain);
    lab.service("filler", 1, |s| {
        reserve_memory(s, (3 << 30) + (640 << 20));
        placement(s).constraints = vec!["node.hostname==n5".into()];
    });
    lab.service("filler2", 1, |s| {
        reserve_memory(s, 4 << 30);
        placement(s).constraints = vec!["node.hostname==n6".into()];
    });
    lab.obey();
    lab.service("web", 2, |s| {
        reserve_memory(s, 512 << 20);
        placement(s).constraints = vec!["node.labels.zone==eu".into()];
    });
    lab.decide();
    let verdict = verdict(&lab, "web");
    assert_eq!(
        verdict.summary,
        "no suitable node: 3 nodes: constraint node.labels.zone==eu not met; \
         2 nodes short of 512 MiB memory (nearest n5: 128 MiB memory short); 1 node drained"
    );
    assert_eq!(verdict.nodes, 6);
    let remedies: Vec<&str> = verdict.refusals.iter().map(|r| r.remedy.as_str()).collect();
    assert_eq!(
        remedies,
        [
            "skep node update --label-add zone=eu NODE",
            "skep service update --reserve-memory LESS web, or add a node: skep swarm join-token worker",
            "skep node update --availability active n4",
        ]
    );
    assert_eq!(verdict.refusals[1].filter(), Filter::Resources);
}

#[test]
fn a_waiting_task_is_placed_the_moment_something_helps() {
    type Help = (&'static str, fn(&mut Lab));
    let helps: [Help; 4] = [
        ("a label", |lab| {
            lab.node_spec("n1", |s| drop(s.labels.insert("zone".into(), "eu".into())))
        }),
        ("an activation", |lab| {
            lab.availability("n2", Availability::Active)
        }),
        ("a task that ends", |lab| {
            lab.remove(Kind::Service, "filler")
        }),
        ("another placement", |lab| {
            lab.change("web", false, |s| placement(s).constraints.clear())
        }),
    ];
    for (what, help) in helps {
        let mut lab = Lab::new(3);
        for id in ["n2", "n3"] {
            lab.node_spec(id, |s| drop(s.labels.insert("zone".into(), "eu".into())));
        }
        lab.availability("n2", Availability::Drain);
        lab.service("filler", 1, |s| {
            reserve_memory(s, 4 << 30);
            placement(s).constraints = vec!["node.hostname==n3".into()];
        });
        lab.obey();
        lab.service("web", 1, |s| {
            reserve_memory(s, 1 << 30);
            placement(s).constraints = vec!["node.labels.zone==eu".into()];
        });
        lab.decide();
        assert!(lab.task("web", 1).verdict.is_some());
        help(&mut lab);
        lab.obey();
        let task = lab.task("web", 1);
        assert_eq!(task.state(), TaskState::Running, "{what}");
        assert_eq!(task.verdict, None, "{what}");
    }
}

#[test]
fn reserved_memory_is_kept_free_until_the_task_has_ended() {
    let mut lab = Lab::new(1);
    lab.service("web", 5, |s| reserve_memory(s, 1 << 30));
    lab.decide();
    assert_eq!(lab.spread("web"), [4]);
    lab.obey();
    lab.change("web", true, |s| s.task.as_mut().unwrap().force_update = 1);
    lab.obey();
    assert_eq!(lab.spread("web"), [4]);
}

#[test]
fn a_host_port_is_given_once_per_node() {
    let mut lab = Lab::new(2);
    lab.service("web", 3, |s| host_port(s, 80));
    lab.decide();
    assert_eq!(lab.spread("web"), [1, 1]);
    assert_eq!(
        verdict(&lab, "web").summary,
        "no suitable node: 2 nodes with host port 80/tcp in use"
    );
    lab.service("other", 1, |s| host_port(s, 80));
    lab.decide();
    assert_eq!(lab.spread("other"), [0, 0]);
}

#[test]
fn a_node_has_no_more_replicas_than_allowed() {
    let mut lab = Lab::new(2);
    lab.service("web", 5, |s| placement(s).max_replicas = 2);
    lab.decide();
    assert_eq!(lab.spread("web"), [2, 2]);
    assert_eq!(
        verdict(&lab, "web").summary,
        "no suitable node: 2 nodes have their max replicas per node (2)"
    );
}

#[test]
fn a_platform_is_matched_by_any_of_its_names() {
    let mut lab = Lab::new(1);
    let platform = |arch: &str| Platform {
        architecture: arch.into(),
        os: "linux".into(),
    };
    lab.service("web", 1, |s| {
        placement(s).platforms = vec![platform("amd64")]
    });
    lab.service("arm", 1, |s| {
        placement(s).platforms = vec![platform("aarch64")]
    });
    lab.decide();
    assert_eq!(lab.spread("web"), [1]);
    assert_eq!(
        verdict(&lab, "arm").summary,
        "no suitable node: 1 node not linux/arm64"
    );
}

#[test]
fn a_log_driver_counts_where_the_node_lists_any() {
    let mut lab = Lab::new(1);
    let driver = |s: &mut ServiceSpec| {
        s.task.as_mut().unwrap().log_driver = Some(LogDriver {
            name: "gelf".into(),
            ..LogDriver::default()
        });
    };
    lab.service("web", 1, driver);
    lab.decide();
    assert_eq!(lab.spread("web"), [1]);
    let mut node = (**lab.world.node("n1").unwrap()).clone();
    node.description
        .as_mut()
        .unwrap()
        .engine
        .get_or_insert_default()
        .plugins = vec![Plugin {
        r#type: "Log".into(),
        name: "json-file".into(),
    }];
    lab.put(node);
    lab.service("logs", 1, driver);
    lab.decide();
    assert_eq!(
        verdict(&lab, "logs").summary,
        "no suitable node: 1 node without log driver gelf"
    );
}

#[test]
fn an_empty_swarm_is_said_to_be_empty() {
    let mut lab = Lab::new(0);
    lab.service("web", 1, |_| {});
    lab.decide();
    assert_eq!(
        verdict(&lab, "web").summary,
        "no suitable node: the swarm has none"
    );
}

#[test]
fn a_global_task_is_judged_by_its_own_node() {
    let mut lab = Lab::new(2);
    lab.service("filler", 1, |s| {
        reserve_memory(s, 4 << 30);
        placement(s).constraints = vec!["node.hostname==n1".into()];
    });
    lab.obey();
    lab.service("agent", 0, |s| {
        global(s);
        reserve_memory(s, 1 << 30);
    });
    lab.obey();
    assert_eq!(
        verdict(&lab, "agent").summary,
        "1 node short of 1 GiB memory (nearest n1: 1 GiB memory short)"
    );
    lab.remove(Kind::Service, "filler");
    lab.obey();
    assert_eq!(lab.spread("agent"), [1, 1]);
}

#[test]
fn a_node_where_tasks_keep_failing_is_avoided() {
    let mut lab = Lab::new(2);
    lab.service("web", 1, |s| policy(s).delay_ns = Some(0));
    lab.availability("n2", Availability::Pause);
    lab.obey();
    for _ in 0..5 {
        lab.now += SECOND;
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.decide();
    }
    lab.availability("n2", Availability::Active);
    lab.service("other", 3, |s| {
        placement(s).constraints = vec!["node.hostname==n2".into()]
    });
    lab.decide();
    lab.report(&lab.task("web", 1), TaskState::Failed);
    lab.decide();
    assert_eq!(
        lab.task("web", 1).node_id,
        "n2",
        "although it has more tasks"
    );
}

#[test]
fn thousands_of_tasks_are_decided_in_several_entries() {
    let mut lab = Lab::new(50);
    lab.service("web", 5_000, |_| {});
    let mut entries = 0;
    loop {
        let seed = crate::state::Seed(entries);
        let decision = lab.engine.decide(&lab.world, lab.now, seed);
        if decision.changes.is_empty() {
            break;
        }
        assert!(decision.changes.len() <= crate::engine::CHANGES_MAX + 1);
        lab.apply(decision.changes);
        entries += 1;
    }
    assert!(entries > 1);
    assert_eq!(lab.spread("web"), vec![100; 50]);
}

#[test]
fn a_host_port_is_kept_until_the_task_of_a_removed_service_has_stopped() {
    let mut lab = Lab::new(1);
    lab.service("old", 1, |s| host_port(s, 80));
    lab.obey();
    lab.remove(Kind::Service, "old");
    lab.service("web", 1, |s| host_port(s, 80));
    lab.decide();
    assert_eq!(
        verdict(&lab, "web").summary,
        "no suitable node: 1 node with host port 80/tcp in use"
    );
    lab.obey();
    assert_eq!(lab.task("web", 1).state(), TaskState::Running);
}

//! Resources, policies, placement, and what a spec is the same as.

use super::*;

#[test]
fn resources_have_swarms_minima_and_a_finite_maximum() {
    let (l, r) = (ResourceLimits::default(), Resources::default());
    for cpus in [1, 999_999, -1, i64::MAX] {
        refused(
            resources(
                ResourceLimits {
                    nano_cpus: cpus,
                    ..l
                },
                r,
            ),
            "task.resources.limits.nano_cpus",
        );
        refused(
            resources(
                l,
                Resources {
                    nano_cpus: cpus,
                    ..r
                },
            ),
            "task.resources.reservations.nano_cpus",
        );
    }
    for memory in [1, (4 << 20) - 1, -1, i64::MAX] {
        refused(
            resources(
                ResourceLimits {
                    memory_bytes: memory,
                    ..l
                },
                r,
            ),
            "task.resources.limits.memory_bytes",
        );
        refused(
            resources(
                l,
                Resources {
                    memory_bytes: memory,
                    ..r
                },
            ),
            "task.resources.reservations.memory_bytes",
        );
    }
    refused(
        resources(ResourceLimits { pids: -1, ..l }, r),
        "task.resources.limits.pids",
    );
    let error = validate(&resources(
        ResourceLimits {
            nano_cpus: 1_500,
            ..l
        },
        r,
    ))
    .unwrap_err();
    assert_eq!(
        error.message,
        "invalid cpu value 0.0000015: Must be at least 0.001"
    );
    let odd = resources(
        ResourceLimits {
            memory_bytes: 8 << 20,
            ..l
        },
        Resources {
            memory_bytes: 16 << 20,
            nano_cpus: 1_000_000,
        },
    );
    assert_eq!(
        validate(&odd).unwrap().len(),
        1,
        "a reservation above the limit is only warned of"
    );
}

#[test]
fn policies_are_in_range() {
    let r = RestartPolicy::default();
    refused(
        restart(RestartPolicy { condition: 3, ..r }),
        "task.restart.condition",
    );
    refused(
        restart(RestartPolicy {
            delay_ns: Some(-1),
            ..r
        }),
        "task.restart.delay_ns",
    );
    refused(
        restart(RestartPolicy { window_ns: -1, ..r }),
        "task.restart.window_ns",
    );
    refused(
        restart(RestartPolicy {
            max_attempts: 10_001,
            ..r
        }),
        "task.restart.max_attempts",
    );
    let u = UpdateConfig::default();
    refused(
        update(UpdateConfig {
            failure_action: 9,
            ..u
        }),
        "update.failure_action",
    );
    refused(update(UpdateConfig { order: 9, ..u }), "update.order");
    refused(
        update(UpdateConfig { delay_ns: -1, ..u }),
        "update.delay_ns",
    );
    refused(
        update(UpdateConfig {
            monitor_ns: Some(i64::MAX),
            ..u
        }),
        "update.monitor_ns",
    );
    for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        refused(
            update(UpdateConfig {
                max_failure_ratio: ratio,
                ..u
            }),
            "update.max_failure_ratio",
        );
    }
    let back = Some(UpdateConfig {
        failure_action: 2,
        ..u
    });
    refused(
        ServiceSpec {
            rollback: back,
            ..spec("web")
        },
        "rollback.failure_action",
    );
    let driver = LogDriver {
        options: [("a".to_owned(), "b".to_owned())].into(),
        ..LogDriver::default()
    };
    refused(
        task(|t| t.log_driver = Some(driver)),
        "task.log_driver.name",
    );
}

#[test]
fn placement_that_no_node_can_meet_is_told_as_a_pair() {
    let error = validate(&constraints(&[
        "node.role==manager",
        "node.labels.a==b",
        "node.Role == worker",
    ]))
    .unwrap_err();
    assert_eq!(error.field, "task.placement.constraints[2]");
    assert!(
        error.message.contains("task.placement.constraints[0]"),
        "{error}"
    );
    assert!(validate(&constraints(&["node.labels.a==x", "node.labels.A==y"])).is_ok());
    assert!(
        validate(&constraints(&[
            "node.ip==10.0.0.0/8",
            "node.ip==10.1.0.0/16"
        ]))
        .is_ok()
    );
    let mut global = task(|t| {
        t.placement = Some(Placement {
            max_replicas: 1,
            ..Placement::default()
        });
    });
    assert!(validate(&global).is_ok());
    global.mode = Some(Mode::Global(Global {}));
    refused(global, "task.placement.max_replicas");
}

#[test]
fn order_and_repetition_carry_no_meaning() {
    let one = container(|c| {
        c.env = strings(&["B=2", "A=0", "A=1"]);
        c.hosts = strings(&["10.0.0.2  b", "10.0.0.1 a"]);
        c.cap_add = strings(&["net_admin", "CAP_SYS_TIME"]);
        c.mounts = vec![mount(2, "", "/z/"), mount(2, "", "/a")];
        c.ulimits = vec![ulimit("nofile", 1, 1), ulimit("core", 1, 1)];
        c.dns = Some(DnsConfig::default());
    });
    let other = container(|c| {
        c.env = strings(&["A=1", "B=2"]);
        c.hosts = strings(&["10.0.0.1 a", "10.0.0.2 b", "10.0.0.1 a"]);
        c.cap_add = strings(&["SYS_TIME", "CAP_NET_ADMIN", "NET_ADMIN"]);
        c.mounts = vec![mount(2, "", "/a"), mount(2, "", "//z")];
        c.ulimits = vec![ulimit("core", 1, 1), ulimit("nofile", 1, 1)];
    });
    assert_ne!(one, other);
    assert_eq!(canonical(&one), canonical(&other));
    let ports_one = canonical(&ports(&[(81, 8081, 1), (80, 8080, 1)]));
    assert_eq!(
        ports_one,
        canonical(&ports(&[(80, 8080, 1), (81, 8081, 1)]))
    );
    let placed = canonical(&constraints(&["node.role == manager", "node.id!=x"]));
    assert_eq!(
        placed,
        canonical(&constraints(&["node.id != x", "node.role==manager"]))
    );
    // Of nameservers the first one is asked first.
    let dns = |servers: &[&str]| {
        canonical(&container(|c| {
            c.dns = Some(DnsConfig {
                nameservers: strings(servers),
                ..DnsConfig::default()
            });
        }))
    };
    assert_ne!(dns(&["1.1.1.1", "8.8.8.8"]), dns(&["8.8.8.8", "1.1.1.1"]));
}

#[test]
fn only_what_a_container_is_made_of_replaces_tasks() {
    let replaces = |a: &ServiceSpec, b: &ServiceSpec| {
        let (a, b) = (canonical(a), canonical(b));
        replaces_tasks(
            (a.task.as_ref(), a.endpoint.as_ref()),
            (b.task.as_ref(), b.endpoint.as_ref()),
        )
    };
    let base = spec("web");
    let keeps = [
        ServiceSpec {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..base.clone()
        },
        ServiceSpec {
            mode: Some(Mode::Replicated(Replicated { replicas: 9 })),
            ..base.clone()
        },
        update(UpdateConfig {
            parallelism: 2,
            ..UpdateConfig::default()
        }),
        restart(RestartPolicy {
            max_attempts: 3,
            ..RestartPolicy::default()
        }),
        constraints(&["node.role==worker"]),
        container(|c| c.registry_auth = "eyJhIjoiYiJ9".to_owned()),
        container(|c| c.stop_grace_period_ns = Some(STOP_GRACE_PERIOD_NS_DEFAULT)),
        container(|c| c.health = Some(HealthCheck::default())),
        ports(&[]),
    ];
    for spec in &keeps {
        assert!(!replaces(&base, spec), "{spec:?}");
    }
    let changes = [
        container(|c| c.image = "alpine:4".to_owned()),
        container(|c| c.env = strings(&["A=1"])),
        container(|c| c.stop_grace_period_ns = Some(1)),
        task(|t| t.force_update = 1),
        resources(
            ResourceLimits {
                pids: 9,
                ..ResourceLimits::default()
            },
            Resources::default(),
        ),
        ports(&[(80, 8080, 1)]),
    ];
    for spec in &changes {
        assert!(replaces(&base, spec), "{spec:?}");
    }
}

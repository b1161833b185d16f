//! Tables: every field with a range, one row per way to break it.

use skep_proto::v1::service_spec::Mode;
use skep_proto::v1::{
    ContainerSpec, DnsConfig, EndpointSpec, Global, HealthCheck, LogDriver, Mount, Placement,
    PortConfig, Replicated, ResourceLimits, ResourceRequirements, Resources, RestartPolicy,
    ServiceSpec, TaskSpec, Ulimit, UpdateConfig,
};

use super::*;

/// The least that a service is.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        task: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: "alpine:3".to_owned(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(Mode::Replicated(Replicated { replicas: 1 })),
        ..ServiceSpec::default()
    }
}

fn task(edit: impl FnOnce(&mut TaskSpec)) -> ServiceSpec {
    let mut spec = spec("web");
    edit(spec.task.as_mut().unwrap());
    spec
}

/// A spec whose container is changed by `edit`.
pub(crate) fn container(edit: impl FnOnce(&mut ContainerSpec)) -> ServiceSpec {
    task(|t| edit(t.container.as_mut().unwrap()))
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn mounts(mounts: Vec<Mount>) -> ServiceSpec {
    container(|c| c.mounts = mounts)
}

fn mount(kind: i32, source: &str, target: &str) -> Mount {
    Mount {
        r#type: kind,
        source: source.to_owned(),
        target: target.to_owned(),
        ..Mount::default()
    }
}

fn ports(ports: &[(u32, u32, i32)]) -> ServiceSpec {
    let ports = ports
        .iter()
        .map(|(target_port, published_port, mode)| PortConfig {
            target_port: *target_port,
            published_port: *published_port,
            mode: *mode,
            ..PortConfig::default()
        })
        .collect();
    ServiceSpec {
        endpoint: Some(EndpointSpec { ports }),
        ..spec("web")
    }
}

fn resources(limits: ResourceLimits, reservations: Resources) -> ServiceSpec {
    task(|t| {
        t.resources = Some(ResourceRequirements {
            limits: Some(limits),
            reservations: Some(reservations),
        });
    })
}

fn health(test: &[&str], interval_ns: i64, retries: i64) -> ServiceSpec {
    container(|c| {
        c.health = Some(HealthCheck {
            test: strings(test),
            interval_ns,
            retries,
            ..HealthCheck::default()
        });
    })
}

fn restart(policy: RestartPolicy) -> ServiceSpec {
    task(|t| t.restart = Some(policy))
}

fn update(config: UpdateConfig) -> ServiceSpec {
    ServiceSpec {
        update: Some(config),
        ..spec("web")
    }
}

fn constraints(constraints: &[&str]) -> ServiceSpec {
    task(|t| {
        t.placement = Some(Placement {
            constraints: strings(constraints),
            ..Placement::default()
        });
    })
}

fn ulimit(name: &str, soft: i64, hard: i64) -> Ulimit {
    Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    }
}

#[track_caller]
fn refused(spec: ServiceSpec, field: &str) {
    match validate(&spec) {
        Ok(_) => panic!("{field} was accepted"),
        Err(error) => {
            assert_eq!(error.field, field, "{error}");
            assert!(!error.message.is_empty());
        }
    }
}

#[test]
fn a_service_has_a_name_an_image_and_a_bounded_size() {
    for name in ["", "-a", "a-", "a.b", "a b", &"a".repeat(64), "ä"] {
        refused(spec(name), "name");
    }
    for name in ["a", "0", "a_b-c", &"a".repeat(63)] {
        assert_eq!(validate(&spec(name)), Ok(vec![]), "{name}");
    }
    refused(
        ServiceSpec {
            task: None,
            ..spec("web")
        },
        "task",
    );
    refused(task(|t| t.container = None), "task.container");
    refused(container(|c| c.image.clear()), "task.container.image");
    refused(
        container(|c| c.image = "A B".to_owned()),
        "task.container.image",
    );
    refused(container(|c| c.args = vec!["x".repeat(200 << 10); 6]), "");
    let mode = Some(Mode::Replicated(Replicated {
        replicas: REPLICAS_MAX + 1,
    }));
    refused(
        ServiceSpec {
            mode,
            ..spec("web")
        },
        "replicated.replicas",
    );
    refused(
        ServiceSpec {
            labels: [("a=b".to_owned(), String::new())].into(),
            ..spec("web")
        },
        "labels[\"a=b\"]",
    );
}

#[test]
fn a_containers_fields_are_refused_by_their_path() {
    refused(
        container(|c| c.args = strings(&["a", "b\0"])),
        "task.container.args[1]",
    );
    refused(
        container(|c| c.command = strings(&["\0"])),
        "task.container.command[0]",
    );
    refused(
        container(|c| c.env = strings(&["A=1", "=x"])),
        "task.container.env[1]",
    );
    refused(
        container(|c| c.env = strings(&["A={{.Nope}}"])),
        "task.container.env[0]",
    );
    refused(
        container(|c| c.dir = "work".to_owned()),
        "task.container.dir",
    );
    refused(
        container(|c| c.user = "\0".to_owned()),
        "task.container.user",
    );
    refused(
        container(|c| c.groups = strings(&["a b"])),
        "task.container.groups[0]",
    );
    for name in ["-a", "a b", "a..b", &"a".repeat(65), "{{.Host}}"] {
        refused(
            container(|c| c.hostname = name.to_owned()),
            "task.container.hostname",
        );
    }
    for signal in ["SIGNOPE", "0", "65", "-1", "RTMIN-1", "RTMIN+99"] {
        refused(
            container(|c| c.stop_signal = signal.to_owned()),
            "task.container.stop_signal",
        );
    }
    for value in [-1, i64::MAX] {
        refused(
            container(|c| c.stop_grace_period_ns = Some(value)),
            "task.container.stop_grace_period_ns",
        );
    }
    for line in ["db", "10.0.0.256 db", "10.0.0.1", "10.0.0.1 a\nb"] {
        refused(
            container(|c| c.hosts = strings(&[line])),
            "task.container.hosts[0]",
        );
    }
    let dns = |dns: DnsConfig| container(|c| c.dns = Some(dns));
    refused(
        dns(DnsConfig {
            nameservers: strings(&["1.1.1.1", "x"]),
            ..DnsConfig::default()
        }),
        "task.container.dns.nameservers[1]",
    );
    refused(
        dns(DnsConfig {
            search: strings(&[""]),
            ..DnsConfig::default()
        }),
        "task.container.dns.search[0]",
    );
    refused(
        container(|c| c.cap_add = strings(&["NET-ADMIN"])),
        "task.container.cap_add[0]",
    );
    refused(
        container(|c| {
            c.cap_add = strings(&["NET_ADMIN"]);
            c.cap_drop = strings(&["cap_net_admin"]);
        }),
        "task.container.cap_drop[0]",
    );
    refused(
        container(|c| c.ulimits = vec![ulimit("files", 1, 1)]),
        "task.container.ulimits[0].name",
    );
    refused(
        container(|c| c.ulimits = vec![ulimit("nofile", -2, 1)]),
        "task.container.ulimits[0].soft",
    );
    refused(
        container(|c| c.ulimits = vec![ulimit("nofile", 1, -2)]),
        "task.container.ulimits[0].hard",
    );
    refused(
        container(|c| c.ulimits = vec![ulimit("nofile", 2, 1)]),
        "task.container.ulimits[0].soft",
    );
    refused(
        container(|c| c.ulimits = vec![ulimit("nofile", 1, 1), ulimit("nofile", 2, 2)]),
        "task.container.ulimits[1]",
    );
    for auth in ["%%", "bm90IGpzb24=", "W10="] {
        refused(
            container(|c| c.registry_auth = auth.to_owned()),
            "task.container.registry_auth",
        );
    }
    assert!(
        validate(&container(|c| {
            c.registry_auth = "eyJ1c2VybmFtZSI6ImEifQ".to_owned();
            c.stop_signal = "sigrtmin+3".to_owned();
            c.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}".to_owned();
            c.hosts = strings(&["10.0.0.1 db db.local", "::1 six", "host-gateway host"]);
            c.ulimits = vec![ulimit("nofile", 1, -1), ulimit("core", -1, -1)];
        }))
        .is_ok()
    );
}

#[test]
fn a_health_check_is_a_known_kind_with_sane_times() {
    refused(health(&["PING"], 0, 0), "task.container.health.test[0]");
    refused(health(&["NONE", "x"], 0, 0), "task.container.health.test");
    refused(health(&["CMD"], 0, 0), "task.container.health.test");
    refused(
        health(&["CMD-SHELL", "a", "b"], 0, 0),
        "task.container.health.test",
    );
    refused(
        health(&["NONE"], 999_999, 0),
        "task.container.health.interval_ns",
    );
    refused(
        health(&["NONE"], -1, 0),
        "task.container.health.interval_ns",
    );
    refused(health(&["NONE"], 0, -1), "task.container.health.retries");
    assert!(validate(&health(&["CMD-SHELL", "true"], 1_000_000, 3)).is_ok());
    assert!(validate(&health(&[], 0, 0)).is_ok());
}

#[test]
fn mounts_have_one_sound_source_per_target() {
    refused(
        mounts(vec![mount(9, "/a", "/b")]),
        "task.container.mounts[0].type",
    );
    refused(
        mounts(vec![mount(0, "a", "/b")]),
        "task.container.mounts[0].source",
    );
    refused(
        mounts(vec![mount(0, "/a", "b")]),
        "task.container.mounts[0].target",
    );
    refused(
        mounts(vec![mount(0, "/a", "/b/../c")]),
        "task.container.mounts[0].target",
    );
    refused(
        mounts(vec![mount(0, "/a", "//.")]),
        "task.container.mounts[0].target",
    );
    refused(
        mounts(vec![mount(1, "/a", "/b")]),
        "task.container.mounts[0].source",
    );
    refused(
        mounts(vec![mount(1, "a", "/b")]),
        "task.container.mounts[0].source",
    );
    refused(
        mounts(vec![mount(2, "x", "/b")]),
        "task.container.mounts[0].source",
    );
    refused(
        mounts(vec![mount(1, "{{.Oops}}", "/b")]),
        "task.container.mounts[0].source",
    );
    let tmpfs = |size, mode| Mount {
        tmpfs_size_bytes: size,
        tmpfs_mode: mode,
        ..mount(2, "", "/b")
    };
    refused(
        mounts(vec![tmpfs(-1, 0)]),
        "task.container.mounts[0].tmpfs_size_bytes",
    );
    refused(
        mounts(vec![tmpfs(0, 0o10000)]),
        "task.container.mounts[0].tmpfs_mode",
    );
    let bind = Mount {
        tmpfs_mode: 0o700,
        ..mount(0, "/a", "/b")
    };
    refused(mounts(vec![bind]), "task.container.mounts[0].tmpfs_mode");
    let twice = mounts(vec![
        mount(0, "/a", "/b"),
        mount(2, "", "/c"),
        mount(1, "vol", "/b/"),
    ]);
    let error = validate(&twice).unwrap_err();
    assert_eq!(error.field, "task.container.mounts[2].target");
    assert!(
        error.message.contains("task.container.mounts[0].target"),
        "{error}"
    );
    assert!(
        validate(&mounts(vec![
            tmpfs(1, 0o1777),
            mount(1, "", "/x"),
            mount(1, "v-{{.Task.Slot}}", "/y")
        ]))
        .is_ok()
    );
}

#[test]
fn ports_are_in_range_published_once_and_not_yet_through_a_mesh() {
    refused(ports(&[(0, 80, 1)]), "endpoint.ports[0].target_port");
    refused(ports(&[(65_536, 80, 1)]), "endpoint.ports[0].target_port");
    refused(
        ports(&[(80, 65_536, 1)]),
        "endpoint.ports[0].published_port",
    );
    refused(ports(&[(80, 80, 5)]), "endpoint.ports[0].mode");
    let twice = validate(&ports(&[
        (80, 8080, 1),
        (81, 0, 1),
        (82, 0, 1),
        (83, 8080, 1),
    ]))
    .unwrap_err();
    assert_eq!(twice.field, "endpoint.ports[3].published_port");
    assert!(
        twice.message.contains("endpoint.ports[0].published_port"),
        "{twice}"
    );
    let mesh = validate(&ports(&[(80, 8080, 0)])).unwrap_err();
    assert_eq!(mesh.code(), skep_proto::Code::Unsupported);
    assert!(mesh.hint.contains("mode=host,target=80,published=8080"));
}

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

use super::*;
use skep_proto::v1::{DnsConfig, LogDriver, ResourceRequirements, TaskSpec, Ulimit};

fn assignment(container: ContainerSpec) -> Assignment {
    Assignment {
        task_id: "t1".into(),
        generation: 7,
        service_id: "s1".into(),
        service_name: "web".into(),
        slot: 2,
        node_id: "n1".into(),
        spec: Some(TaskSpec {
            container: Some(container),
            ..TaskSpec::default()
        }),
        ..Assignment::default()
    }
}

fn body(assignment: &Assignment) -> Result<ContainerCreateBody> {
    let owner = Owner {
        cluster_id: "c1".into(),
        node_id: "n1".into(),
        hostname: "host-a".into(),
    };
    create_body(assignment, &owner, "x86_64")
}

fn words(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| (*s).to_owned()).collect()
}

#[test]
fn our_labels_win_over_the_specs() {
    let labels = body(&assignment(ContainerSpec {
        image: "i".into(),
        labels: [
            ("team".to_owned(), "red".to_owned()),
            (LABEL_TASK.to_owned(), "forged".to_owned()),
        ]
        .into(),
        ..ContainerSpec::default()
    }))
    .unwrap()
    .labels
    .unwrap();
    for (key, value) in [
        ("com.docker.swarm.task", ""),
        ("com.docker.swarm.task.id", "t1"),
        ("com.docker.swarm.task.name", "web.2.t1"),
        ("com.docker.swarm.node.id", "n1"),
        ("com.docker.swarm.service.id", "s1"),
        ("com.docker.swarm.service.name", "web"),
        ("io.skep.cluster", "c1"),
        ("io.skep.generation", "7"),
        ("team", "red"),
    ] {
        assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn every_field_of_a_container_reaches_the_engine() {
    let mut task = assignment(ContainerSpec {
        image: "nginx:1.27".into(),
        command: words(&["/entry"]),
        args: words(&["-g", "x"]),
        env: words(&["HOST={{.Node.Hostname}}", "BARE", "A=b=c"]),
        dir: "/srv".into(),
        user: "1000".into(),
        groups: words(&["audio"]),
        hostname: "{{.Service.Name}}-{{.Task.Slot}}".into(),
        tty: true,
        open_stdin: true,
        read_only: true,
        init: Some(true),
        stop_signal: "SIGINT".into(),
        stop_grace_period_ns: Some(1_500_000_000),
        health: Some(HealthCheck {
            test: words(&["CMD", "true"]),
            interval_ns: 5,
            retries: 3,
            ..HealthCheck::default()
        }),
        hosts: words(&["10.0.0.1 db other"]),
        dns: Some(DnsConfig {
            nameservers: words(&["9.9.9.9"]),
            search: words(&["lan"]),
            options: words(&["ndots:2"]),
        }),
        cap_add: words(&["NET_ADMIN"]),
        cap_drop: words(&["MKNOD"]),
        sysctls: [("net.core.somaxconn".to_owned(), "1024".to_owned())].into(),
        ulimits: vec![Ulimit {
            name: "nofile".into(),
            soft: 10,
            hard: 20,
        }],
        ..ContainerSpec::default()
    });
    let spec = task.spec.as_mut().unwrap();
    spec.resources = Some(ResourceRequirements {
        limits: Some(ResourceLimits {
            nano_cpus: 500_000_000,
            memory_bytes: 64 << 20,
            pids: 99,
        }),
        reservations: None,
    });
    spec.log_driver = Some(LogDriver {
        name: "json-file".into(),
        options: [("max-size".to_owned(), "1m".to_owned())].into(),
    });
    let made = body(&task).unwrap();
    assert_eq!(made.entrypoint, Some(words(&["/entry"])));
    assert_eq!(made.cmd, Some(words(&["-g", "x"])));
    assert_eq!(made.env, Some(words(&["HOST=host-a", "BARE", "A=b=c"])));
    assert_eq!(made.working_dir.as_deref(), Some("/srv"));
    assert_eq!(made.user.as_deref(), Some("1000"));
    assert_eq!(made.hostname.as_deref(), Some("web-2"));
    assert_eq!((made.tty, made.open_stdin), (Some(true), Some(true)));
    assert_eq!(made.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(made.stop_timeout, Some(2), "a grace is rounded up");
    let health = made.healthcheck.unwrap();
    assert_eq!((health.interval, health.retries), (Some(5), Some(3)));
    let host = made.host_config.unwrap();
    assert_eq!(host.extra_hosts, Some(words(&["db:10.0.0.1"])));
    assert_eq!(host.dns, Some(words(&["9.9.9.9"])));
    assert_eq!(host.dns_search, Some(words(&["lan"])));
    assert_eq!(host.dns_options, Some(words(&["ndots:2"])));
    assert_eq!(host.group_add, Some(words(&["audio"])));
    assert_eq!(host.cap_add, Some(words(&["NET_ADMIN"])));
    assert_eq!(host.cap_drop, Some(words(&["MKNOD"])));
    assert_eq!(host.memory, Some(64 << 20));
    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert_eq!(host.pids_limit, Some(99));
    assert_eq!(host.init, Some(true));
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.ulimits.unwrap().len(), 1);
    assert_eq!(host.sysctls.unwrap().len(), 1);
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("json-file"));
    assert!(host.restart_policy.is_none(), "restarting is the swarm's");
}

#[test]
fn a_mount_that_cannot_be_is_refused_in_words() {
    let bad = [
        (
            MountType::Bind,
            "rel",
            "/x",
            "bind mount source, must be an absolute path: rel",
        ),
        (
            MountType::Bind,
            "/a",
            "x",
            "mount target, must be an absolute path: x",
        ),
        (
            MountType::Volume,
            "/a",
            "/x",
            "must not be an absolute path: /a",
        ),
        (MountType::Tmpfs, "a", "/x", "source must be empty: a"),
    ];
    for (kind, source, target, words) in bad {
        let error = body(&assignment(ContainerSpec {
            mounts: vec![MountSpec {
                r#type: kind.into(),
                source: source.into(),
                target: target.into(),
                ..MountSpec::default()
            }],
            ..ContainerSpec::default()
        }))
        .unwrap_err()
        .to_string();
        assert!(
            error.contains(words) && error.contains("mounts[0]"),
            "{error}"
        );
    }
}

#[test]
fn only_host_mode_ports_are_bound() {
    let port = |mode: PortMode, published| PortConfig {
        target_port: 80,
        published_port: published,
        mode: mode.into(),
        ..PortConfig::default()
    };
    let mut task = assignment(ContainerSpec::default());
    task.endpoint = Some(EndpointSpec {
        ports: vec![
            port(PortMode::Ingress, 8080),
            port(PortMode::Host, 8081),
            port(PortMode::Host, 0),
        ],
    });
    let made = body(&task).unwrap();
    assert_eq!(made.exposed_ports, Some(words(&["80/tcp"])));
    let bindings = made.host_config.unwrap().port_bindings.unwrap();
    let bound = bindings["80/tcp"].as_ref().unwrap();
    let ports: Vec<_> = bound.iter().map(|b| b.host_port.clone().unwrap()).collect();
    assert_eq!(ports, ["8081", ""]);
}

//! What a container is made of: its fields, health check, mounts and ports.

use super::*;

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

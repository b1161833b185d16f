//! Whatever somebody sends: it is refused, or stored in a form that stays.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::*;

/// Mostly sound, sometimes anything.
fn mostly(sound: &'static [&'static str]) -> impl Strategy<Value = String> {
    let sound = prop::sample::select(sound).prop_map(str::to_owned);
    prop_oneof![
        60 => sound,
        1 => "[a-zA-Z0-9_./:=@{}\" -]{0,12}",
        1 => "\\PC{0,6}",
    ]
}

fn list(sound: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(mostly(sound), 0..4)
}

fn number(sound: &'static [i64]) -> impl Strategy<Value = i64> {
    prop_oneof![60 => prop::sample::select(sound), 1 => Just(-1), 1 => any::<i64>()]
}

/// Type, source and target.
const MOUNTS: &[(i32, &str, &str)] = &[
    (0, "/srv", "/data/"),
    (0, "/srv/{{.Task.Slot}}", "//a/./b"),
    (1, "vol", "/c"),
    (1, "v-{{.Node.ID}}", "/{{.Task.Slot}}"),
    (1, "", "/d/e"),
    (2, "", "/tmp"),
];

fn mount() -> impl Strategy<Value = Mount> {
    let sound = prop::sample::select(MOUNTS)
        .prop_map(|(kind, source, target)| (kind, source.to_owned(), target.to_owned()));
    prop_oneof![20 => sound, 1 => (-1..5, "[/a-z.]{0,6}", "[/a-z.]{0,6}")].prop_map(
        |(kind, source, target)| Mount {
            r#type: kind,
            source,
            target,
            ..Mount::default()
        },
    )
}

prop_compose! {
    fn any_container()(
        image in mostly(&["alpine:3", "alpine:4", "r.example.com/team/web:1"]),
        args in list(&["sleep", "", "--x={{y}}"]),
        env in list(&["A=1", "A=2", "B", "C=", "N={{.Node.Hostname}}"]),
        hosts in list(&["10.0.0.1 db", "10.0.0.1   db", "::1 six  seven"]),
        cap_add in list(&["NET_ADMIN", "cap_net_admin", "ALL"]),
        cap_drop in list(&["CHOWN"]),
        groups in list(&["audio", "1000"]),
        hostname in mostly(&["", "web", "{{.Node.Hostname}}"]),
        stop_signal in mostly(&["", "SIGINT", "9", "rtmin+1"]),
        grace in prop::option::of(number(&[0, 10_000_000_000])),
        mounts in prop::collection::vec(mount(), 0..2),
        registry_auth in mostly(&["", "eyJhIjoiYiJ9"]),
    ) -> ContainerSpec {
        ContainerSpec {
            image, args, env, hosts, cap_add, cap_drop, groups, hostname, stop_signal, mounts, registry_auth,
            stop_grace_period_ns: grace,
            ..ContainerSpec::default()
        }
    }
}

prop_compose! {
    fn any_policies()(
        delay in prop::option::of(number(&[0, 1])), window in number(&[0, 5]),
        limit in number(&[0, 8 << 20]), cpus in number(&[0, 1_000_000]), reserved in number(&[0, 4 << 20]),
        constraints in list(&["node.role == manager", "node.role==manager", "node.id!= x", "node.labels.a==b"]),
        max_replicas in 0u64..3, force_update in prop_oneof![9 => 0u64..2, 1 => any::<u64>()],
    ) -> TaskSpec {
        TaskSpec {
            restart: Some(RestartPolicy { delay_ns: delay, window_ns: window, ..RestartPolicy::default() }),
            resources: Some(ResourceRequirements {
                limits: Some(ResourceLimits { memory_bytes: limit, ..ResourceLimits::default() }),
                reservations: Some(Resources { nano_cpus: cpus, memory_bytes: reserved }),
            }),
            placement: Some(Placement { constraints, max_replicas, ..Placement::default() }),
            force_update,
            ..TaskSpec::default()
        }
    }
}

fn any_ports() -> impl Strategy<Value = Vec<PortConfig>> {
    let mode = prop_oneof![20 => Just(1), 1 => -1..3];
    let published = prop_oneof![20 => 0u32..9_000, 1 => any::<u32>()];
    let target = prop_oneof![20 => 1u32..9, 1 => any::<u32>()];
    let port =
        (target, published, mode).prop_map(|(target_port, published_port, mode)| PortConfig {
            target_port,
            published_port,
            mode,
            ..PortConfig::default()
        });
    prop::collection::vec(port, 0..3)
}

prop_compose! {
    fn any_service()(
        name in mostly(&["web"]),
        container in prop::option::weighted(0.95, any_container()),
        task in prop::option::weighted(0.95, any_policies()),
        update in prop::option::of((number(&[0, 7]), prop_oneof![9 => 0.0..1.0, 1 => any::<f64>()])),
        replicas in prop::option::of(prop_oneof![9 => 0u64..9, 1 => any::<u64>()]),
        ports in prop::option::of(any_ports()),
    ) -> ServiceSpec {
        ServiceSpec {
            name,
            mode: replicas.map(|replicas| service_spec::Mode::Replicated(Replicated { replicas })),
            task: task.map(|task| TaskSpec { container, ..task }),
            update: update.map(|(delay_ns, max_failure_ratio)| UpdateConfig {
                delay_ns,
                max_failure_ratio,
                ..UpdateConfig::default()
            }),
            endpoint: ports.map(|ports| EndpointSpec { ports }),
            ..ServiceSpec::default()
        }
    }
}

/// Whether it was accepted.
fn check(one: ServiceSpec, two: ServiceSpec) -> Result<bool, TestCaseError> {
    // A NaN is not equal to itself, and refused anyway.
    if one.update.is_some_and(|u| u.max_failure_ratio.is_nan()) {
        return Ok(false);
    }
    prop_assert_eq!(canonical(&canonical(&one)), canonical(&one));
    let mut swarm = Swarm::founded();
    let name = one.name.clone();
    if swarm.run(create(one.clone())).is_err() {
        return Ok(false);
    }
    let stored = swarm.service(&name);
    prop_assert_eq!(stored.spec.as_ref(), Some(&canonical(&one)));
    // Sent back as it is stored, or as it was first written: nothing to do.
    for again in [canonical(&one), one] {
        swarm.ok(update(&swarm, &name, again));
        prop_assert_eq!(&swarm.service(&name), &stored);
    }
    let two = ServiceSpec {
        name: name.clone(),
        ..two
    };
    if swarm.run(update(&swarm, &name, two)).is_ok() && swarm.service(&name).spec != stored.spec {
        let service = swarm.service(&name);
        prop_assert_eq!(service.previous_spec.as_ref(), stored.spec.as_ref());
        let template = service.current_template().unwrap();
        prop_assert_eq!(
            template.task.as_ref(),
            service.spec.as_ref().unwrap().task.as_ref()
        );
        swarm.ok(rollback(&swarm, &name));
        prop_assert_eq!(swarm.service(&name).spec, stored.spec);
    }
    Ok(true)
}

#[test]
fn any_spec_is_refused_or_stored_in_a_form_that_stays() {
    let accepted = Cell::new(0);
    let config = Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(any_service(), any_service()), |(one, two)| {
            accepted.set(accepted.get() + u32::from(check(one, two)?));
            Ok(())
        })
        .unwrap();
    assert!(
        accepted.get() > 60,
        "only {} of 600 specs were accepted",
        accepted.get()
    );
}

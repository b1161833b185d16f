//! Services come up, scale, change, move and go.

use std::collections::BTreeMap;

use crate::lab::{IMAGE, Lab};
use crate::view::{CONVERGE, Container};
use crate::wait::eventually;

/// How many of `containers` each host runs.
fn spread(containers: &[Container]) -> BTreeMap<usize, usize> {
    let mut count = BTreeMap::new();
    for container in containers {
        *count.entry(container.host).or_default() += 1;
    }
    count
}

#[test]
fn a_service_spreads_scales_and_goes() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    lab.create("web", 3, &[]);
    let tasks = lab.until_running(1, "web", 3);
    let first = lab.until_containers(&[1, 2, 3], "web", 3);
    assert_eq!(spread(&first), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));

    // Swarm's names and labels, which other people's tools look for.
    for container in &first {
        let label = |key: &str| {
            let format = format!("{{{{index .Config.Labels \"com.docker.swarm.{key}\"}}}}");
            let args = ["inspect", "--format", &format, &container.id];
            lab.docker(container.host, &args).trim().to_owned()
        };
        assert_eq!(container.name, label("task.name"));
        assert_eq!(label("service.name"), "web");
        let slot = tasks.iter().find(|t| container.name.starts_with(&t.name));
        let task = slot.unwrap_or_else(|| panic!("{} is no task's", container.name));
        assert_eq!(task.node, lab.name(container.host));
        assert_eq!(
            container.name,
            format!("{}.{}", task.name, label("task.id"))
        );
    }

    lab.ok(1, &["service", "scale", "web=6"]);
    let more = lab.until_containers(&[1, 2, 3], "web", 6);
    assert_eq!(spread(&more), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    assert!(
        first.iter().all(|c| more.contains(c)),
        "scaling up touches nothing"
    );

    lab.ok(1, &["service", "scale", "web=1"]);
    let one = lab.until_containers(&[1, 2, 3], "web", 1);
    assert!(more.contains(&one[0]), "scaling down replaces nothing");
    let listed = lab.ok(
        1,
        &[
            "service",
            "ls",
            "--format",
            "{{.Name}} {{.Mode}} {{.Replicas}}",
        ],
    );
    assert_eq!(listed.trim(), "web replicated 1/1");

    lab.ok(1, &["service", "rm", "web"]);
    lab.until_containers(&[1, 2, 3], "web", 0);
    lab.skep(1, &["service", "ps", "web"])
        .expect_refusal(1, &["web", "not found"]);
}

#[test]
fn a_global_service_runs_once_on_every_node() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.ok(
        1,
        &[
            "service", "create", "--name", "each", "--mode", "global", IMAGE,
        ],
    );
    let both = lab.until_containers(&[1, 2], "each", 2);
    assert_eq!(spread(&both), BTreeMap::from([(1, 1), (2, 1)]));

    let second = lab.name(2);
    lab.ok(1, &["node", "update", "--availability", "drain", &second]);
    lab.until_containers(&[2], "each", 0);
    lab.ok(1, &["node", "update", "--availability", "active", &second]);
    lab.until_containers(&[2], "each", 1);
    assert!(lab.containers(&[1], "each").contains(&both[0]));
}

#[test]
fn drain_moves_tasks_and_pause_keeps_them() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    lab.create("web", 6, &[]);
    lab.until_containers(&[1, 2, 3], "web", 6);
    let (second, third) = (lab.name(2), lab.name(3));

    lab.ok(1, &["node", "update", "--availability", "drain", &third]);
    lab.until_containers(&[3], "web", 0);
    lab.until_containers(&[1, 2], "web", 6);
    lab.until_node(1, 3, "Availability", "Drain");

    lab.ok(1, &["node", "update", "--availability", "active", &third]);
    lab.ok(1, &["node", "update", "--availability", "pause", &second]);
    let kept = lab.containers(&[2], "web");
    lab.ok(1, &["service", "scale", "web=9"]);
    lab.until_containers(&[1, 2, 3], "web", 9);
    assert_eq!(
        lab.containers(&[2], "web"),
        kept,
        "a paused node keeps what it has"
    );
}

#[test]
fn a_constraint_is_kept_and_an_unplaceable_task_says_why() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    let second = lab.name(2);
    lab.ok(1, &["node", "update", "--label-add", "zone=eu", &second]);
    lab.create("there", 2, &["--constraint", "node.labels.zone==eu"]);
    assert_eq!(
        spread(&lab.until_containers(&[1, 2], "there", 2)),
        BTreeMap::from([(2, 2)])
    );

    let args = ["service", "create", "--name", "nowhere"];
    let rest = ["--constraint", "node.labels.zone==us", IMAGE];
    let said = lab.skep(1, &[&args[..], &rest[..]].concat());
    assert_eq!(said.code, 3, "not placed: {said}");
    let why = lab.ok(1, &["explain", "nowhere"]);
    assert!(why.contains("node.labels.zone==us"), "{why}");
    let tasks = lab.tasks(1, "nowhere").unwrap();
    assert!(tasks[0].error.contains("node.labels.zone==us"), "{tasks:?}");

    // What could help is noticed by itself.
    lab.ok(1, &["node", "update", "--label-add", "zone=us", &second]);
    lab.until_containers(&[2], "nowhere", 1);
}

#[test]
fn an_update_replaces_every_task_and_a_rollback_brings_it_back() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 4, &["--env", "V=1", "--update-parallelism", "2"]);
    let old = lab.until_containers(&[1, 2], "web", 4);
    let env = |container: &Container| {
        let args = ["inspect", "--format", "{{.Config.Env}}", &container.id];
        lab.docker(container.host, &args)
    };
    lab.ok(1, &["service", "update", "--env-add", "V=2", "web"]);
    let until_all_have = |value: &str| {
        eventually(CONVERGE, &format!("every container has {value}"), || {
            let all = lab.all_containers("web");
            let right = all.iter().filter(|c| env(c).contains(value)).count();
            if all.len() == 4 && right == 4 {
                Ok(all)
            } else {
                Err(format!("{right} of {} have it", all.len()))
            }
        })
    };
    let new = until_all_have("V=2");
    assert!(new.iter().all(|c| !old.contains(c)));

    // The same again changes nothing.
    lab.ok(1, &["service", "update", "--env-add", "V=2", "web"]);
    assert_eq!(lab.all_containers("web"), new);
    lab.ok(1, &["service", "rollback", "web"]);
    until_all_have("V=1");
}

#[test]
fn a_task_that_ends_is_started_again_and_one_that_may_end_is_not() {
    let Some(lab) = Lab::swarm(1, 1) else { return };
    lab.create("keep", 1, &[]);
    let before = lab.until_containers(&[1], "keep", 1);
    lab.docker(1, &["kill", &before[0].id]);
    eventually(CONVERGE, "another container runs in its place", || {
        let now = lab.containers(&[1], "keep");
        if now.len() == 1 && now != before {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    let failed = lab.tasks(1, "keep").unwrap();
    let gone = failed.iter().find(|t| t.desired == "Shutdown").unwrap();
    assert!(
        gone.error.contains("137"),
        "the exit code is told: {gone:?}"
    );

    let base = [
        "service",
        "create",
        "--name",
        "once",
        "--detach",
        "--restart-condition",
    ];
    let rest = ["none", IMAGE, "true"];
    lab.ok(1, &[&base[..], &rest[..]].concat());
    eventually(CONVERGE, "it is complete", || {
        let tasks = lab.tasks(1, "once")?;
        match tasks.as_slice() {
            [only] if only.current.starts_with("Complete") => Ok(()),
            _ => Err(format!("{tasks:?}")),
        }
    });
}

//! Leaders die, and nobody notices much.

use std::time::{Duration, Instant};

use crate::lab::{IMAGE, Lab};
use crate::view::CONVERGE;
use crate::wait::eventually;

/// Until a write through `host` is acknowledged. Panics if the swarm does not
/// take one at all.
fn time_to_write(lab: &Lab, host: usize, name: &str) -> Duration {
    let start = Instant::now();
    lab.ok(
        host,
        &[
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--replicas",
            "0",
            IMAGE,
        ],
    );
    start.elapsed()
}

fn others(lab: &Lab, gone: usize) -> Vec<usize> {
    lab.hosts().filter(|host| *host != gone).collect()
}

#[test]
fn a_killed_leader_is_replaced_at_once_and_no_container_notices() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    lab.create("web", 3, &[]);
    let before = lab.until_containers(&[1, 2, 3], "web", 3);

    let mut gone = lab.leader(1);
    for round in 0..3 {
        lab.run(&["kill-daemon", &gone.to_string()]);
        let rest = others(&lab, gone);
        let took = time_to_write(&lab, rest[0], &format!("w{round}"));
        assert!(
            took < Duration::from_secs(3),
            "the next write took {took:?}"
        );
        let leader = lab.leader(rest[1]);
        assert_ne!(leader, gone);
        let listed = lab.ok(rest[1], &["service", "ls", "--format", "{{.Name}}"]);
        assert!(listed.lines().any(|l| l == format!("w{round}")), "{listed}");
        assert_eq!(lab.all_containers("web"), before, "containers run on");

        lab.run(&["start-daemon", &gone.to_string()]);
        lab.until_node(leader, gone, "Status", "Ready");
        lab.until_node(leader, gone, "ManagerStatus", "Reachable");
        lab.until_running(gone, "web", 3);
        assert_eq!(
            lab.all_containers("web"),
            before,
            "it adopts its containers"
        );
        gone = leader;
    }
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_first() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    let gone = lab.leader(1);
    lab.run(&["stop-daemon", &gone.to_string()]);
    let rest = others(&lab, gone);
    let took = time_to_write(&lab, rest[0], "after");
    assert!(
        took < Duration::from_secs(1),
        "the next write took {took:?}"
    );
    assert_ne!(lab.leader(rest[0]), gone);
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_steps_down_when_it_is_back() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    lab.create("web", 3, &[]);
    let gone = lab.leader(1);
    let rest = others(&lab, gone);
    lab.run(&["cut", &gone.to_string()]);
    let took = time_to_write(&lab, rest[0], "after");
    assert!(
        took < Duration::from_secs(6),
        "the next write took {took:?}"
    );
    let leader = lab.leader(rest[0]);
    assert_ne!(leader, gone);

    // What was cut off acknowledges nothing.
    let args = [
        "service",
        "create",
        "--detach",
        "--name",
        "lost",
        "--replicas",
        "0",
        IMAGE,
    ];
    let said = lab.skep(gone, &[&["--timeout", "2s"][..], &args[..]].concat());
    assert_ne!(said.code, 0, "{said}");

    lab.run(&["heal", &gone.to_string()]);
    lab.until_node(leader, gone, "Status", "Ready");
    eventually(CONVERGE, "the old leader knows of the new one", || {
        let status = lab.nodes(gone, "ManagerStatus")?;
        match status.get(&lab.name(leader)).map(String::as_str) {
            Some("Leader") => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    });
    lab.until_containers(&[1, 2, 3], "web", 3);
    let listed = lab.ok(gone, &["service", "ls", "--format", "{{.Name}}"]);
    assert!(!listed.lines().any(|l| l == "lost"), "{listed}");
}

#[test]
fn without_a_quorum_writes_wait_out_their_deadline_and_reads_say_why() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    lab.run(&["kill", "2"]);
    lab.run(&["kill", "3"]);
    let args = [
        "service",
        "create",
        "--detach",
        "--name",
        "no",
        "--replicas",
        "0",
        IMAGE,
    ];
    let said = lab.skep(1, &[&["--timeout", "3s"][..], &args[..]].concat());
    said.expect_refusal(1, &[]);
    assert!(!said.err.trim().is_empty(), "it says why");

    lab.run(&["start", "2"]);
    lab.until_node(1, 2, "Status", "Ready");
    time_to_write(&lab, 1, "yes");
    time_to_write(&lab, 2, "too");
}

#[test]
fn whatever_is_killed_whenever_what_was_acknowledged_is_there() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    let mut acknowledged = Vec::new();
    for round in 0..9 {
        // Each in turn, the leader or not, in the middle of writes.
        let gone = round % 3 + 1;
        let rest = others(&lab, gone);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut names = Vec::new();
                for n in 0..4 {
                    let name = format!("s{round}x{n}");
                    let via = rest[n % 2];
                    let args = ["service", "create", "--detach", "--name", &name];
                    let rest = ["--replicas", "0", IMAGE];
                    if lab.skep(via, &[&args[..], &rest[..]].concat()).code == 0 {
                        names.push(name);
                    }
                }
                names
            });
            lab.run(&["kill-daemon", &gone.to_string()]);
            acknowledged.extend(writer.join().unwrap());
        });
        lab.run(&["start-daemon", &gone.to_string()]);
        until_manager(&lab, rest[0], gone);
    }
    assert!(
        acknowledged.len() >= 30,
        "writes go on: {}",
        acknowledged.len()
    );
    for host in lab.hosts() {
        let listed = lab.ok(host, &["service", "ls", "--format", "{{.Name}}"]);
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|name| !listed.lines().any(|line| line == name.as_str()))
            .collect();
        assert!(lost.is_empty(), "host {host} lost {lost:?}");
    }
}

/// Waits until `node` leads or follows again, as `host` sees it.
fn until_manager(lab: &Lab, host: usize, node: usize) {
    eventually(CONVERGE, "it is a manager again", || {
        let status = lab.nodes(host, "ManagerStatus")?;
        match status.get(&lab.name(node)).map(String::as_str) {
            Some("Leader" | "Reachable") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn the_drill_ends_the_leader_and_counts_what_was_felt() {
    let Some(lab) = Lab::supervised(3, 3) else {
        return;
    };
    lab.create("web", 3, &[]);
    let before = lab.until_containers(&[1, 2, 3], "web", 3);
    for how in ["--kill", "--stop", "--cut"] {
        let args = [
            "drill", "failover", how, "--rounds", "2", "--format", "json",
        ];
        let said = lab.skep(1, &args);
        said.expect_ok("the drill");
        let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(report["rounds"].as_array().map(Vec::len), Some(2), "{said}");
        assert_eq!(report["writes_lost"], 0, "{said}");
        assert_eq!(report["tasks_changed"], 0, "{said}");
        lab.until_ready(3);
    }
    assert_eq!(lab.all_containers("web"), before);
    // It leaves nothing of itself.
    let listed = lab.ok(1, &["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(listed.trim(), "web");
}

#[test]
fn the_drill_refuses_where_quorum_would_be_lost() {
    let Some(lab) = Lab::swarm(2, 2) else { return };
    lab.skep(1, &["drill", "failover", "--kill"])
        .expect_refusal(1, &["quorum"]);
    lab.until_ready(2);
}

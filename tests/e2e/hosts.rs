//! Hosts are lost and come back.

use std::time::Duration;

use crate::lab::Lab;
use crate::wait::throughout;

#[test]
fn a_lost_hosts_tasks_run_elsewhere_and_none_is_doubled_when_it_is_back() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    lab.create("web", 6, &[]);
    lab.until_containers(&[1, 2, 3], "web", 6);

    lab.run(&["kill", "3"]);
    lab.until_node(1, 3, "Status", "Down");
    lab.until_containers(&[1, 2], "web", 6);
    let tasks = lab.until_running(1, "web", 6);
    assert!(tasks.iter().all(|t| t.node != lab.name(3)), "{tasks:#?}");

    lab.run(&["start", "3"]);
    lab.until_node(1, 3, "Status", "Ready");
    lab.until_containers(&[1, 2, 3], "web", 6);
    // It is a host like any other again.
    lab.ok(1, &["service", "scale", "web=9"]);
    lab.until_containers(&[1, 2, 3], "web", 9);
    assert!(!lab.containers(&[3], "web").is_empty());
}

#[test]
fn a_host_that_is_away_for_a_moment_keeps_its_containers() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 4, &[]);
    let before = lab.until_containers(&[1, 2], "web", 4);
    lab.run(&["cut", "2"]);
    std::thread::sleep(Duration::from_millis(700));
    lab.run(&["heal", "2"]);
    lab.until_node(1, 2, "Status", "Ready");
    throughout(Duration::from_secs(3), "nothing is touched", || {
        let now = lab.all_containers("web");
        if now == before {
            Ok(())
        } else {
            Err(format!("{now:#?}"))
        }
    });
}

#[test]
fn a_host_that_was_cut_off_for_long_runs_nothing_twice_when_it_is_back() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    lab.create("web", 6, &[]);
    lab.until_containers(&[1, 2, 3], "web", 6);
    lab.run(&["cut", "3"]);
    lab.until_containers(&[1, 2], "web", 6);
    assert_eq!(
        lab.containers(&[3], "web").len(),
        2,
        "nobody could tell it to stop them"
    );
    lab.run(&["heal", "3"]);
    lab.until_containers(&[1, 2, 3], "web", 6);
    lab.until_running(1, "web", 6);
}

#[test]
fn a_host_that_is_stopped_in_order_gives_its_tasks_away_and_takes_part_again() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 2, &[]);
    lab.until_containers(&[1, 2], "web", 2);
    lab.run(&["stop", "2"]);
    lab.until_node(1, 2, "Status", "Down");
    lab.until_containers(&[1], "web", 2);
    lab.run(&["start", "2"]);
    lab.until_node(1, 2, "Status", "Ready");
    lab.until_containers(&[1, 2], "web", 2);
}

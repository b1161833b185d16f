//! Daemons and engines are restarted under running containers.

use std::time::Duration;

use crate::lab::{IMAGE, Lab};
use crate::wait::throughout;

#[test]
fn a_killed_agent_adopts_its_containers() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 4, &[]);
    let before = lab.until_containers(&[1, 2], "web", 4);
    for _ in 0..5 {
        lab.run(&["kill-daemon", "2"]);
        lab.run(&["start-daemon", "2"]);
    }
    lab.until_node(1, 2, "Status", "Ready");
    lab.until_running(1, "web", 4);
    assert_eq!(lab.all_containers("web"), before);
}

#[test]
fn an_agent_adopts_its_containers_with_no_manager_in_reach() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 4, &[]);
    let before = lab.until_containers(&[1, 2], "web", 4);
    lab.run(&["kill-daemon", "1"]);
    lab.run(&["kill-daemon", "2"]);
    lab.run(&["start-daemon", "2"]);
    throughout(Duration::from_secs(3), "its containers run on", || {
        let now = lab.all_containers("web");
        if now == before {
            Ok(())
        } else {
            Err(format!("{now:#?}"))
        }
    });
    lab.run(&["start-daemon", "1"]);
    lab.until_node(1, 2, "Status", "Ready");
    lab.until_running(1, "web", 4);
    assert_eq!(lab.all_containers("web"), before);
}

#[test]
fn what_changed_while_an_agent_was_away_is_made_up_for() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("old", 2, &[]);
    lab.create("died", 2, &[]);
    lab.until_containers(&[1, 2], "old", 2);
    let died = lab.until_containers(&[1, 2], "died", 2);
    lab.run(&["kill-daemon", "2"]);
    let mine = died.iter().find(|c| c.host == 2).unwrap();
    lab.docker(2, &["kill", &mine.id]);
    lab.ok(1, &["service", "rm", "old"]);
    // A container that says it is a task of this swarm, and is not.
    let labels = ["--label", "com.docker.swarm.task", "--label"];
    let more = [
        "com.docker.swarm.task.id=nosuchtask00000000000000",
        "--label",
    ];
    let last = ["com.docker.swarm.service.name=orphan", IMAGE];
    let foreign = lab.docker(2, &[&["run", "-d"][..], &labels, &more, &last].concat());
    let own = lab.docker(2, &["run", "-d", IMAGE]);

    lab.run(&["start-daemon", "2"]);
    lab.until_containers(&[1, 2], "old", 0);
    lab.until_containers(&[1, 2], "died", 2);
    let running = lab.docker(2, &["ps", "-q", "--no-trunc"]);
    assert!(
        running.contains(own.trim()),
        "others' containers are not touched"
    );
    assert!(
        running.contains(foreign.trim()),
        "nor those that Skep did not start"
    );
}

#[test]
fn an_engine_restart_ends_with_as_many_containers() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 4, &[]);
    lab.until_containers(&[1, 2], "web", 4);
    lab.run(&["stop-engine", "2"]);
    lab.run(&["start-engine", "2"]);
    lab.until_containers(&[1, 2], "web", 4);
    lab.until_running(1, "web", 4);

    lab.run(&["kill-engine", "2"]);
    lab.run(&["start-engine", "2"]);
    lab.until_containers(&[1, 2], "web", 4);
    lab.until_running(1, "web", 4);
}

#[test]
fn with_live_restore_an_engine_restart_touches_no_container() {
    let Some(lab) = Lab::with_live_restore(2, 1) else {
        return;
    };
    lab.create("web", 4, &[]);
    let before = lab.until_containers(&[1, 2], "web", 4);
    for how in ["stop-engine", "kill-engine"] {
        lab.run(&[how, "2"]);
        lab.run(&["start-engine", "2"]);
        throughout(Duration::from_secs(3), "nothing is touched", || {
            let now = lab.all_containers("web");
            if now == before {
                Ok(())
            } else {
                Err(format!("after {how}: {now:#?}"))
            }
        });
        lab.until_running(1, "web", 4);
    }
}

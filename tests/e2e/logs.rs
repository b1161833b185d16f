//! What tasks print is read from any manager.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::lab::{IMAGE, Lab};
use crate::view::CONVERGE;
use crate::wait::eventually;

#[test]
fn logs_of_every_task_come_through_any_manager() {
    let Some(lab) = Lab::swarm(3, 2) else { return };
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done";
    let create = ["service", "create", "--name", "talk", "--replicas", "3"];
    lab.ok(1, &[&create[..], &[IMAGE, "sh", "-c", script]].concat());
    lab.until_running(1, "talk", 3);

    for host in [1, 2] {
        eventually(CONVERGE, "each task has been heard", || {
            let said = lab.skep(host, &["service", "logs", "talk"]).to_string();
            let all = (1..=3).all(|slot| said.contains(&format!("talk.{slot}.")));
            if all && said.contains("line 1") {
                Ok(())
            } else {
                Err(said)
            }
        });
    }
    let tail = lab.ok(1, &["service", "logs", "--raw", "--tail", "1", "talk"]);
    assert_eq!(tail.lines().count(), 3, "one line of each task: {tail}");

    // Followed lines arrive as they are written.
    let mut follow = lab
        .skep_command(2, &["service", "logs", "--follow", "--tail", "0", "talk"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let (sender, receiver) = channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok).take(12) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    for n in 0..12 {
        let line = receiver.recv_timeout(Duration::from_secs(10));
        assert!(
            line.is_ok_and(|line| line.contains("line ")),
            "followed line {n}"
        );
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn a_node_that_cannot_be_asked_is_named_and_the_others_are_heard() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 2, &[]);
    lab.until_running(1, "web", 2);
    lab.run(&["kill-daemon", "2"]);
    let said = lab.skep(1, &["service", "logs", "web"]);
    assert!(said.out.contains("web is up"), "{said}");
    assert!(
        said.err.contains(&lab.name(2)) || said.out.contains(&lab.name(2)),
        "{said}"
    );
}

//! Disks, ports, engines and files are not as they should be.

use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::Duration;

use crate::lab::{IMAGE, Lab, Said, skep_binary};
use crate::view::CONVERGE;
use crate::wait::eventually;

/// Runs a daemon in the foreground on host 1 for as long as it lasts, `seconds` at most.
fn daemon(lab: &Lab, seconds: &str, flags: &[&str]) -> Said {
    let mut command = Command::new("timeout");
    command.args([seconds, skep_binary(), "daemon"]).args(flags);
    let engine = format!("unix://{}", lab.run(&["engine", "1"]));
    command.args(["--engine", &engine]);
    Said::of(command)
}

#[test]
fn a_second_daemon_on_one_data_directory_refuses() {
    let Some(lab) = Lab::swarm(1, 1) else { return };
    let data = lab.data(1);
    let flags = ["--data-dir", data.to_str().unwrap(), "--socket"];
    let said = daemon(
        &lab,
        "10",
        &[&flags[..], &["/tmp/skep-e2e-second.sock"]].concat(),
    );
    assert!(
        said.code != 0 && said.code != 124,
        "it ends by itself: {said}"
    );
    assert!(said.err.contains(data.to_str().unwrap()), "{said}");
    lab.until_ready(1);
}

#[test]
fn a_daemon_says_which_file_key_or_flag_is_wrong() {
    let Some(lab) = Lab::without_swarm(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("skep.toml");
    fs::write(&config, "data-dirr = \"/x\"\n").unwrap();
    let said = daemon(&lab, "10", &["--config", config.to_str().unwrap()]);
    said.expect_refusal(1, &["data-dirr", config.to_str().unwrap()]);
    let said = daemon(&lab, "10", &["--config", "/no/such.toml"]);
    said.expect_refusal(1, &["/no/such.toml"]);
    let file = config.to_str().unwrap();
    let said = daemon(
        &lab,
        "10",
        &["--data-dir", file, "--socket", "/tmp/skep-e2e-x.sock"],
    );
    assert!(
        said.code != 0 && said.code != 124 && said.err.contains(file),
        "{said}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let Some(lab) = Lab::without_swarm(1) else {
        return;
    };
    lab.inside(1, &["sh", "-c", "busybox httpd -p 2377 -h /tmp"]);
    let ip = lab.ip(1);
    let init = ["swarm", "init", "--advertise-addr", &ip];
    eventually(Duration::from_secs(5), "the port is taken", || {
        let listening = lab.inside(1, &["sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"]);
        if listening.contains(":0949 ") {
            Ok(())
        } else {
            Err(listening)
        }
    });
    lab.skep(1, &init).expect_refusal(1, &["2377", "in use"]);
    lab.inside(1, &["sh", "-c", "kill $(pgrep -f '[h]ttpd -p 2377')"]);
    eventually(CONVERGE, "with the port free, it works", || {
        let said = lab.skep(1, &init);
        if said.code == 0 {
            Ok(())
        } else {
            Err(said.to_string())
        }
    });
}

#[test]
fn without_an_engine_a_node_says_so_and_takes_part_when_it_is_there() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.run(&["stop-engine", "2"]);
    eventually(CONVERGE, "info says why", || {
        let info = lab.skep(2, &["info"]).to_string();
        if info.contains("docker.sock") {
            Ok(())
        } else {
            Err(info)
        }
    });
    lab.run(&["start-engine", "2"]);
    lab.create("web", 4, &[]);
    lab.until_containers(&[1, 2], "web", 4);
}

#[test]
fn an_engine_that_hangs_holds_up_nobody_else() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("before", 2, &[]);
    let engine = lab.run(&["pid", "2", "engine"]);
    Said::of(signal("-STOP", &engine)).expect_ok("stop the engine's process");
    let first = lab.name(1);
    let constraint = format!("node.hostname=={first}");
    lab.create("web", 2, &["--constraint", &constraint]);
    lab.until_containers(&[1], "web", 2);
    lab.skep(2, &["info"])
        .expect_ok("info beside a hanging engine");
    Said::of(signal("-CONT", &engine)).expect_ok("go on");
    lab.until_containers(&[1, 2], "before", 2);
    lab.until_node(1, 2, "Status", "Ready");
}

fn signal(name: &str, pid: &str) -> Command {
    let mut command = Command::new("kill");
    command.args([name, pid]);
    command
}

#[test]
fn a_manager_that_cannot_write_leaves_the_swarm_serving() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    let gone = lab.leader(1);
    let rest: Vec<usize> = lab.hosts().filter(|host| *host != gone).collect();
    let data = lab.data(gone);
    let data = data.to_str().unwrap();
    // A small disk of its own, with the store on it, then full.
    lab.run(&["stop-daemon", &gone.to_string()]);
    let script = format!(
        "cp -a {data} {data}.kept && mount -t tmpfs -o size=64m small {data} && \
         cp -a {data}.kept/. {data}/"
    );
    lab.inside(gone, &["sh", "-c", &script]);
    lab.run(&["start-daemon", &gone.to_string()]);
    lab.until_node(rest[0], gone, "ManagerStatus", "Reachable");
    let fill = format!("dd if=/dev/zero of={data}/filler bs=64k 2>/dev/null; true");
    lab.inside(gone, &["sh", "-c", &fill]);

    let mut names = Vec::new();
    for n in 0..20 {
        let name = format!("full{n}");
        let create = [
            "service",
            "create",
            "--detach",
            "--name",
            &name,
            "--replicas",
            "0",
            IMAGE,
        ];
        lab.ok(rest[n % 2], &create);
        names.push(name);
    }
    // With room again it comes back and has everything.
    lab.run(&["kill-daemon", &gone.to_string()]);
    lab.inside(gone, &["rm", &format!("{data}/filler")]);
    lab.run(&["start-daemon", &gone.to_string()]);
    lab.until_node(rest[0], gone, "ManagerStatus", "Reachable");
    eventually(CONVERGE, "it has what was written without it", || {
        let listed = lab
            .skep(gone, &["service", "ls", "--format", "{{.Name}}"])
            .to_string();
        let all = names.iter().all(|name| listed.lines().any(|l| l == name));
        if all { Ok(()) } else { Err(listed) }
    });
}

#[test]
fn a_read_only_disk_is_said_plainly() {
    let Some(lab) = Lab::without_swarm(1) else {
        return;
    };
    let data = lab.data(1);
    let data = data.to_str().unwrap();
    lab.run(&["stop-daemon", "1"]);
    let script = format!("mount --bind {data} {data} && mount -o remount,bind,ro {data}");
    lab.inside(1, &["sh", "-c", &script]);
    let engine = format!("unix://{}", lab.run(&["engine", "1"]));
    let flags = [
        "--data-dir",
        data,
        "--socket",
        "/run/e2e.sock",
        "--engine",
        &engine,
    ];
    let command = ["timeout", "10", skep_binary(), "daemon"];
    let shown = [
        &["sh", "-c", "\"$@\" 2>&1; echo code $?", "sh"][..],
        &command,
        &flags,
    ]
    .concat();
    let said = lab.inside(1, &shown);
    assert!(
        said.contains(data) && said.to_lowercase().contains("read-only"),
        "{said}"
    );
    assert!(
        !said.contains("code 0") && !said.contains("code 124"),
        "{said}"
    );
}

#[test]
fn a_damaged_store_is_named_and_does_not_become_an_empty_swarm() {
    let Some(lab) = Lab::swarm(3, 3) else { return };
    lab.ok(
        1,
        &[
            "service",
            "create",
            "--name",
            "kept",
            "--replicas",
            "0",
            IMAGE,
        ],
    );
    lab.run(&["kill-daemon", "3"]);
    let mut damaged = 0;
    let mut folders = vec![lab.data(3)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.starts_with("MANIFEST-") {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(fs::metadata(&path).unwrap().len() / 2)
                    .unwrap();
                damaged += 1;
            } else if name == "CURRENT" {
                fs::write(&path, "nonsense").unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 2, "there is a store to damage");
    let started = lab.try_run(&["start-daemon", "3"]);
    let info = lab.skep(3, &["info"]).to_string();
    let told = format!("{started}{info}{}", lab.daemon_log(3)).to_lowercase();
    assert!(told.contains("corrupt"), "{told}");
    let names = lab.ok(1, &["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(names.trim(), "kept");
    assert_eq!(lab.nodes(1, "Status").unwrap().len(), 3);
}

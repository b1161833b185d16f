//! Certificates, tokens, and who may not come in.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::lab::{IMAGE, Lab};
use crate::view::CONVERGE;
use crate::wait::eventually;

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_removed_node_is_refused_at_once() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    lab.create("web", 3, &[]);
    let third = lab.name(3);
    lab.skep(1, &["node", "rm", &third])
        .expect_refusal(1, &["--force"]);
    lab.ok(1, &["node", "rm", "--force", &third]);
    assert!(!lab.nodes(1, "Status").unwrap().contains_key(&third));
    lab.until_containers(&[1, 2], "web", 3);
    // Its certificate opens nothing any more, not after a restart either.
    lab.run(&["kill-daemon", "3"]);
    lab.run(&["start-daemon", "3"]);
    eventually(CONVERGE, "it knows that it is out", || {
        let info = lab.skep(3, &["info"]).to_string();
        let low = info.to_lowercase();
        if low.contains("removed") || low.contains("inactive") || low.contains("error") {
            Ok(())
        } else {
            Err(info)
        }
    });
    assert!(!lab.nodes(1, "Status").unwrap().contains_key(&third));

    // By a token it is let in again, as a new node.
    let token = lab.token("worker");
    lab.skep(3, &["swarm", "leave", "--force"]);
    lab.join(3, &token).expect_ok("join again");
    lab.until_ready(3);
}

#[test]
fn a_rotated_token_opens_nothing_and_its_successor_does() {
    let Some(lab) = Lab::without_swarm(2) else {
        return;
    };
    lab.ok(1, &["swarm", "init", "--advertise-addr", &lab.ip(1)]);
    let old = lab.token("worker");
    let new = lab.ok(1, &["swarm", "join-token", "--rotate", "-q", "worker"]);
    let new = new.trim();
    assert_ne!(old, new);
    assert_eq!(lab.token("worker"), new);
    lab.join(2, &old).expect_refusal(1, &["token"]);
    lab.join(2, new).expect_ok("join by the new token");
    lab.until_ready(2);
}

#[test]
fn certificates_are_renewed_without_a_restart() {
    let Some(lab) = Lab::swarm(3, 2) else { return };
    lab.create("web", 3, &[]);
    let before = lab.until_containers(&[1, 2, 3], "web", 3);
    let serials = || -> Vec<String> {
        lab.hosts()
            .map(|host| {
                let certificate = files_below(&lab.data(host))
                    .into_iter()
                    .find(|path| path.ends_with("certificates/swarm-node.crt"))
                    .unwrap_or_else(|| panic!("no certificate on host {host}"));
                std::fs::read_to_string(certificate).unwrap()
            })
            .collect()
    };
    let old = serials();
    lab.ok(1, &["swarm", "ca", "--rotate"]);
    eventually(CONVERGE, "every node has a new certificate", || {
        let new = serials();
        let same = old.iter().zip(&new).filter(|(a, b)| a == b).count();
        if same == 0 {
            Ok(())
        } else {
            Err(format!("{same} have not"))
        }
    });
    lab.until_ready(3);
    lab.ok(1, &["service", "scale", "web=4"]);
    let after = lab.until_containers(&[1, 2, 3], "web", 4);
    assert!(
        before.iter().all(|c| after.contains(c)),
        "no container is touched"
    );
    for host in [2, 3] {
        lab.run(&["kill-daemon", &host.to_string()]);
        lab.run(&["start-daemon", &host.to_string()]);
    }
    lab.until_ready(3);
}

#[test]
fn keys_are_for_root_alone_and_the_socket_for_its_group() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    for host in lab.hosts() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let keys: Vec<PathBuf> = files_below(&lab.data(host))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "key"))
            .collect();
        assert!(!keys.is_empty(), "host {host} has a key");
        for key in keys {
            assert_eq!(mode(&key), 0o600, "{}", key.display());
        }
        // The root's key is in the log of a manager, below this.
        assert_eq!(mode(&lab.data(host)), 0o700);
        let socket = PathBuf::from(lab.run(&["sock", &host.to_string()]));
        assert_eq!(mode(&socket), 0o660);
    }
}

#[test]
fn a_stranger_without_a_certificate_gets_nothing() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    lab.create("web", 1, &[]);
    // No TLS at all, and TLS from nobody.
    let address = format!("{}:2377", lab.ip(1));
    let said = lab.skep_remote(&address, &["service", "ls"]);
    assert_ne!(said.code, 0, "{said}");
    assert!(!said.out.contains("web"), "{said}");
    // A worker's own socket does not lead around the rule either.
    lab.skep(2, &["service", "create", "--name", "no", IMAGE])
        .expect_refusal(1, &["manager"]);
}

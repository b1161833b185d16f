//! Hosts form a swarm and leave it.

use crate::lab::Lab;

#[test]
fn hosts_form_a_swarm_with_two_commands() {
    let Some(lab) = Lab::without_swarm(3) else {
        return;
    };
    lab.skep(1, &["node", "ls"])
        .expect_refusal(1, &["swarm", "init"]);

    let printed = lab.ok(1, &["swarm", "init", "--advertise-addr", &lab.ip(1)]);
    let line = printed
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("skep swarm join --token SWMTKN-1-"))
        .unwrap_or_else(|| panic!("init prints the line for the others: {printed}"));
    lab.skep(1, &["swarm", "init"])
        .expect_refusal(1, &["already"]);

    // The printed line, word for word, on the second host.
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    lab.skep(2, &words).expect_ok("the printed line");
    let manager = lab.token("manager");
    assert_ne!(manager, lab.token("worker"));
    lab.join(3, &manager).expect_ok("join as a manager");
    lab.join(3, &manager).expect_refusal(1, &["already"]);

    lab.until_ready(3);
    for host in [1, 3] {
        let status = lab.nodes(host, "ManagerStatus").unwrap();
        assert_eq!(status[&lab.name(1)], "Leader");
        assert_eq!(status[&lab.name(2)], "");
        assert_eq!(status[&lab.name(3)], "Reachable");
    }
    lab.skep(2, &["node", "ls"])
        .expect_refusal(1, &["not a swarm manager"]);
    let info = lab.ok(2, &["info"]);
    assert!(info.contains("active"), "{info}");
}

#[test]
fn a_join_that_cannot_be_says_what_is_wrong_and_changes_nothing() {
    let Some(lab) = Lab::without_swarm(2) else {
        return;
    };
    lab.ok(1, &["swarm", "init", "--advertise-addr", &lab.ip(1)]);
    let token = lab.token("worker");

    lab.join(2, "SWMTKN-1-nonsense")
        .expect_refusal(1, &["token"]);
    // The right form, another swarm's digest: the root is not trusted.
    let parts: Vec<&str> = token.split('-').collect();
    let digest: String = parts[2].chars().rev().collect();
    let foreign = [parts[0], parts[1], &digest, parts[3]].join("-");
    lab.join(2, &foreign).expect_refusal(1, &["token"]);
    // The right digest, a secret that opens nothing.
    let secret: String = parts[3].chars().rev().collect();
    let guessed = [parts[0], parts[1], parts[2], &secret].join("-");
    lab.join(2, &guessed).expect_refusal(1, &["token"]);
    // Nobody listens there.
    let nobody = format!("{}:2399", lab.ip(1));
    lab.skep(2, &["swarm", "join", "--token", &token, &nobody])
        .expect_refusal(1, &[&nobody]);
    lab.skep(2, &["swarm", "join", "--token", &token, "no such address"])
        .expect_refusal(1, &["no such address"]);

    assert!(lab.ok(2, &["info"]).to_lowercase().contains("inactive"));
    assert_eq!(lab.nodes(1, "Status").unwrap().len(), 1);
    lab.join(2, &token).expect_ok("join after all that");
    lab.until_ready(2);
}

#[test]
fn a_worker_leaves_and_joins_again_as_a_new_node() {
    let Some(lab) = Lab::swarm(2, 1) else { return };
    let token = lab.token("worker");
    lab.ok(2, &["swarm", "leave"]);
    lab.until_node(1, 2, "Status", "Down");
    assert!(lab.ok(2, &["info"]).to_lowercase().contains("inactive"));

    lab.join(2, &token).expect_ok("join again");
    crate::wait::eventually(crate::view::CONVERGE, "old and new are listed", || {
        let said = lab.ok(1, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        let mut mine: Vec<&str> = said
            .lines()
            .filter(|l| l.starts_with(&lab.name(2)))
            .collect();
        mine.sort_unstable();
        let expected = [
            format!("{} Down", lab.name(2)),
            format!("{} Ready", lab.name(2)),
        ];
        if mine == expected { Ok(()) } else { Err(said) }
    });
    lab.skep(1, &["swarm", "leave"])
        .expect_refusal(1, &["--force"]);
}

#[test]
fn a_worker_is_promoted_and_a_manager_demoted() {
    let Some(lab) = Lab::swarm(3, 1) else { return };
    let (second, third) = (lab.name(2), lab.name(3));
    lab.ok(1, &["node", "promote", &second, &third]);
    lab.until_node(1, 2, "ManagerStatus", "Reachable");
    lab.until_node(1, 3, "ManagerStatus", "Reachable");
    lab.until_node(2, 1, "ManagerStatus", "Leader");

    let first = lab.name(1);
    lab.ok(2, &["node", "demote", &first]);
    lab.until_node(2, 1, "ManagerStatus", "");
    let leader = lab.leader(2);
    assert_ne!(leader, 1, "a demoted leader hands over");
    lab.ok(
        leader,
        &[
            "service",
            "create",
            "--name",
            "after",
            "--replicas",
            "0",
            crate::lab::IMAGE,
        ],
    );
}

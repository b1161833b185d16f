//! Bad input is refused in words, and changes nothing.

use crate::lab::{IMAGE, Lab};

#[test]
fn bad_input_names_the_field_and_changes_nothing() {
    let Some(lab) = Lab::swarm(1, 1) else { return };
    lab.ok(
        1,
        &[
            "service",
            "create",
            "--name",
            "taken",
            "--replicas",
            "0",
            IMAGE,
        ],
    );
    let create = |flags: &[&str]| {
        let base = ["service", "create", "--detach", "--replicas", "0"];
        let name = ["--name", "refused"];
        let named = flags.contains(&"--name");
        lab.skep(
            1,
            &[&base[..], if named { &[] } else { &name }, flags].concat(),
        )
    };
    let cases: &[(&[&str], &str)] = &[
        (&["--name", "bad name!", IMAGE], "name"),
        (&["--name", "taken", IMAGE], "taken"),
        (
            &["--constraint", "node.labels.zone=eu", IMAGE],
            "constraint",
        ),
        (&["--constraint", "engine=1", IMAGE], "constraint"),
        (&["--limit-memory", "lots", IMAGE], "limit-memory"),
        (&["--publish", "99999:80", IMAGE], "publish"),
        (&["--mount", "type=nonsense,target=/x", IMAGE], "mount"),
        (
            &["--restart-condition", "sometimes", IMAGE],
            "restart-condition",
        ),
        (&["Not/AnImage"], "image"),
    ];
    for (flags, word) in cases {
        let said = create(flags);
        assert!(said.code == 1 || said.code == 2, "{flags:?}: {said}");
        assert!(
            said.err.to_lowercase().contains(word),
            "{flags:?} names {word}: {said}"
        );
    }
    for (args, word) in [
        (vec!["service", "scale", "taken=-1"], "-1"),
        (vec!["service", "scale", "nosuch=1"], "nosuch"),
        (vec!["service", "ls", "--filter", "colour=red"], "colour"),
        (vec!["service", "ls", "--format", "{{.Nonsense"], "format"),
        (
            vec!["node", "update", "--availability", "sometimes", "x"],
            "availability",
        ),
        (vec!["node", "inspect", "nosuch"], "nosuch"),
    ] {
        let said = lab.skep(1, &args);
        assert!(said.code == 1 || said.code == 2, "{args:?}: {said}");
        assert!(
            said.err.to_lowercase().contains(word),
            "{args:?} names {word}: {said}"
        );
    }
    let listed = lab.ok(1, &["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(listed.trim(), "taken");
}

#[test]
fn removing_or_demoting_what_quorum_needs_is_refused() {
    let Some(lab) = Lab::swarm(1, 1) else { return };
    let first = lab.name(1);
    lab.skep(1, &["node", "demote", &first])
        .expect_refusal(1, &["manager"]);
    lab.skep(1, &["node", "rm", "--force", &first])
        .expect_refusal(1, &["manager"]);
    lab.until_ready(1);
}

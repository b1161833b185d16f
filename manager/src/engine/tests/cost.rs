//! What a decision costs in a large swarm. Not a test of a rule: run it with
//! `cargo test -p skep-manager --release --lib decide_costs -- --ignored --nocapture`.

use std::fmt::Write;

use skep_proto::v1::{NodeState, TaskState};

use crate::engine::Engine;
use crate::engine::testing::{Lab, policy};
use crate::state::Seed;

/// Time is measured here only, by the test.
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
fn timed<T>(what: &str, report: &mut String, run: impl FnOnce() -> T) -> T {
    let from = std::time::Instant::now();
    let value = run();
    let _ = writeln!(report, "{what:<58} {:>9.2?}", from.elapsed());
    value
}

fn until_quiet(lab: &mut Lab) -> usize {
    let mut changes = 0;
    for seed in 0.. {
        let decision = lab.engine.decide(&lab.world, lab.now, Seed(seed));
        if decision.changes.is_empty() {
            break;
        }
        changes += decision.changes.len();
        lab.apply(decision.changes);
    }
    changes
}

#[test]
#[ignore = "prints times, checks nothing but that the swarm comes to rest"]
fn decide_costs() {
    let mut report = String::new();
    let mut lab = Lab::new(500);
    lab.service("web", 10_000, |s| policy(s).delay_ns = Some(0));
    timed(
        "create and place 10,000 tasks on 500 nodes",
        &mut report,
        || until_quiet(&mut lab),
    );
    assert_eq!(lab.spread("web"), vec![20; 500]);
    for task in lab.live("web") {
        lab.report(&task, TaskState::Running);
    }
    timed("10,000 tasks run", &mut report, || until_quiet(&mut lab));
    let task = lab.task("web", 5_000);
    lab.report(&task, TaskState::Failed);
    timed(
        "one of them fails: replaced and placed",
        &mut report,
        || until_quiet(&mut lab),
    );
    lab.report(&lab.task("web", 5_000), TaskState::Running);
    timed("one status", &mut report, || until_quiet(&mut lab));
    lab.node_state("n7", NodeState::Down);
    timed("a node with 20 tasks is lost", &mut report, || {
        until_quiet(&mut lab)
    });
    lab.scale("web", 10_001);
    timed("scale by one", &mut report, || until_quiet(&mut lab));
    let world = lab.world.clone();
    timed("a new leader looks at everything", &mut report, || {
        Engine::new(&world).decide(&world, lab.now, Seed(1))
    });
    println!("{report}");
}

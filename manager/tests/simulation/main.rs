//! Random histories of a swarm, from a seed: real verbs, the real engine, and
//! simulated workers that crash, cut, drain and come back. After every step the
//! invariants hold. Then the faults end, and the swarm must heal: every replica
//! runs, nothing runs twice, and the engine has nothing left to say.
//!
//! A failure prints its seed and the command that replays it.
//! `SKEP_SIMULATIONS`: how many histories; `SKEP_SEED`: the first one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod history;
mod operator;
mod swarm;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Enough to see each pair of faults many times, within a minute.
const HISTORIES: u64 = 1_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn any_history_is_safe_and_heals() {
    let first = setting("SKEP_SEED").unwrap_or(1);
    let histories = setting("SKEP_SIMULATIONS").unwrap_or(HISTORIES);
    for seed in first..first.saturating_add(histories) {
        let run = || history::run(seed);
        if let Err(cause) = catch_unwind(AssertUnwindSafe(run)) {
            eprintln!(
                "\nhistory {seed} went wrong; to replay it:\n  SKEP_SEED={seed} SKEP_SIMULATIONS=1 \
                 SKEP_TRACE=1 cargo test -p skep-manager --test simulation -- --nocapture\n"
            );
            std::panic::resume_unwind(cause);
        }
    }
}

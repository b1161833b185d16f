//! Polling with a deadline, the only way in which these tests wait.

use std::fmt::Display;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Asks `probe` until it succeeds; panics with its last complaint at the deadline.
#[track_caller]
pub fn eventually<T, E: Display>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > limit => {
                panic!("not so after {limit:?}: {what}\n{reason}");
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Asks `probe` for as long as `period`; panics as soon as it complains.
#[track_caller]
pub fn throughout<E: Display>(
    period: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<(), E>,
) {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(reason) = probe() {
            panic!("no longer so after {:?}: {what}\n{reason}", start.elapsed());
        }
        std::thread::sleep(POLL);
    }
}

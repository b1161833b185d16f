//! The host's clock, in the unit that every message uses.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix nanoseconds UTC; 0 for a clock before 1970.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

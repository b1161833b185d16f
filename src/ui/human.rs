//! Times, durations and sizes as people read them, in Docker's wording.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND_NS: i64 = 1_000_000_000;

/// `About an hour`, `5 minutes`: how long something took, roughly.
pub fn duration(ns: i64) -> String {
    let seconds = ns.max(0) / SECOND_NS;
    let minutes = seconds / 60;
    // Rounded, as one says it.
    let hours = (seconds + 1_800) / 3_600;
    let days = seconds / 86_400;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

/// `5 minutes ago`.
pub fn ago(now_ns: i64, then_ns: i64) -> String {
    format!("{} ago", duration(now_ns.saturating_sub(then_ns)))
}

/// A duration exactly, as Go writes it: `1m30s`, `1.5s`, `250ms`, `0s`.
pub fn exact(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let fraction = |whole: u64, rest: u64, digits: usize, unit: &str| {
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{whole}{dot}{rest}{unit}")
    };
    let text = match ns {
        0 => "0s".into(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(ns / 1_000, ns % 1_000, 3, "µs"),
        1_000_000..1_000_000_000 => fraction(ns / 1_000_000, ns % 1_000_000, 6, "ms"),
        _ => {
            let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
            let (minutes, hours) = (seconds / 60 % 60, seconds / 3_600);
            let seconds = fraction(seconds % 60, rest, 9, "s");
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `7.75GiB`: bytes in powers of 1024, four digits at most.
pub fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[allow(clippy::cast_precision_loss)]
    let mut size = bytes as f64;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if size.abs() < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{}{unit}", significant(size, 4))
}

/// `0.5` CPUs of 500000000 billionths.
pub fn cpus(nano: i64) -> String {
    let (whole, rest) = (nano / SECOND_NS, (nano % SECOND_NS).unsigned_abs());
    let rest = format!("{rest:09}");
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() {
        whole.to_string()
    } else {
        format!("{whole}.{rest}")
    }
}

fn significant(value: f64, digits: usize) -> String {
    let whole = format!("{:.0}", value.abs().trunc()).len();
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// RFC 3339 in UTC with as many digits as needed: `2026-01-02T03:04:05.6Z`.
pub fn rfc3339(ns: i64) -> String {
    timestamp(ns).to_string()
}

/// RFC 3339 in UTC with nine digits, so that columns line up.
pub fn rfc3339_fixed(ns: i64) -> String {
    format!("{:.9}", timestamp(ns))
}

/// `2026-01-02 03:04:05.6 +0000 utc`, as the pretty blocks have it.
pub fn utc(ns: i64) -> String {
    let zoned = timestamp(ns).to_zoned(TimeZone::UTC);
    format!("{} +0000 utc", zoned.strftime("%Y-%m-%d %H:%M:%S%.f"))
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_worded_as_docker_words_them() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (7_200, "2 hours"),
            (47 * 3_600, "47 hours"),
            (48 * 3_600, "2 days"),
            (13 * 86_400, "13 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(duration(seconds * SECOND_NS), words, "{seconds} s");
        }
        assert_eq!(ago(10 * SECOND_NS, 3 * SECOND_NS), "7 seconds ago");
    }

    #[test]
    fn exact_durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (90 * SECOND_NS, "1m30s"),
            (2_160 * 3_600 * SECOND_NS, "2160h0m0s"),
            (1_500, "1.5µs"),
            (-5 * SECOND_NS, "-5s"),
        ];
        for (ns, text) in cases {
            assert_eq!(exact(ns), text);
        }
    }

    #[test]
    fn sizes_have_four_digits_at_most() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(512 << 20), "512MiB");
        assert_eq!(bytes(8_321_499_136), "7.75GiB");
        assert_eq!(cpus(500_000_000), "0.5");
        assert_eq!(cpus(4_000_000_000), "4");
    }

    #[test]
    fn times_are_utc() {
        let ns = 1_767_323_045_600_000_000;
        assert_eq!(rfc3339(ns), "2026-01-02T03:04:05.6Z");
        assert_eq!(rfc3339_fixed(ns), "2026-01-02T03:04:05.600000000Z");
        assert_eq!(utc(ns), "2026-01-02 03:04:05.6 +0000 utc");
    }
}

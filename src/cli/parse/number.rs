//! Durations, sizes, CPUs and ratios.

use super::Parsed;

/// A duration in Go's syntax, in nanoseconds: `1m30s`, `250ms`, `1.5h`, `0`.
pub fn duration(text: &str) -> Parsed<i64> {
    let wrong = |why: &str| format!("{why}; expected a duration such as 10s, 1m30s or 250ms");
    if text == "0" {
        return Ok(0);
    }
    if text.starts_with('-') {
        return Err(wrong("it cannot be negative"));
    }
    let mut rest = text;
    let mut total_ns = 0.0_f64;
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(|| wrong("the unit is missing"))?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong("there is no number"))?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return Err(wrong(&format!("{unit:?} is no unit of time"))),
        };
        total_ns = number.mul_add(unit_ns, total_ns);
        rest = tail;
    }
    whole(total_ns).ok_or_else(|| wrong("it is too long"))
}

/// A size in bytes: `512m`, `1.5GiB`, `4096`. Units are powers of 1024.
pub fn size(text: &str) -> Parsed<i64> {
    let wrong = |why: &str| format!("{why}; expected a size such as 512m, 2g or 4194304");
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong("there is no number"))?;
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if !unit.contains('i') => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong(&format!("{unit:?} is no unit of size"))),
    };
    whole(number * 1024_f64.powi(power)).ok_or_else(|| wrong("it is too large"))
}

/// CPUs in billionths: `0.5`, `2`.
pub fn cpus(text: &str) -> Parsed<i64> {
    let wrong = || "expected a number of CPUs such as 0.5 or 2, nine decimals at most".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 || (whole.is_empty() && part.is_empty()) {
        return Err(wrong());
    }
    let number = |s: &str| -> Option<i64> {
        if s.is_empty() {
            Some(0)
        } else {
            s.parse().ok()
        }
    };
    number(whole)
        .and_then(|n| n.checked_mul(1_000_000_000))
        .zip(number(&format!("{part:0<9}")))
        .and_then(|(whole, part)| whole.checked_add(part))
        .ok_or_else(wrong)
}

/// A share from 0 to 1.
pub fn ratio(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a share from 0 to 1, such as 0.25".into()),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> Option<i64> {
    // 2^63 itself is not an i64, and the next lower f64 is.
    (0.0..9_223_372_036_854_775_808.0)
        .contains(&value)
        .then(|| value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("2160h", 7_776_000_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ];
        for (text, ns) in cases {
            assert_eq!(duration(text), Ok(ns), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "1x",
            "-1s",
            "1s2",
            "1..5s",
            "9999999999h",
            " 1s",
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("1m30s"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("4194304", 4 << 20),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("1.5g", 3 << 29),
            ("1GiB", 1 << 30),
            ("1gb", 1 << 30),
            ("64kb", 64 << 10),
            ("10b", 10),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "12x", "-1m", "1e9", "1ib", "99999999999p"] {
            let error = size(text).unwrap_err();
            assert!(error.contains("512m"), "{text}: {error}");
        }
    }

    #[test]
    fn cpus_are_exact() {
        assert_eq!(cpus("0.1"), Ok(100_000_000));
        assert_eq!(cpus(".5"), Ok(500_000_000));
        assert_eq!(cpus("2"), Ok(2_000_000_000));
        assert_eq!(cpus("0.000000001"), Ok(1));
        for text in ["", ".", "1.2.3", "-1", "0.0000000001", "x", "99999999999"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ratios_are_shares() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        assert!(ratio("1.1").is_err());
        assert!(ratio("NaN").is_err());
    }
}

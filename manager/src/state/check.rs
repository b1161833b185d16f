//! The checks that the rules of every resource are made of. Each refuses with
//! the path of the field, what is wrong with it and what it may be.

use std::collections::BTreeMap;

use skep_proto::names::Words;
use skep_proto::{Error, Result};

use super::Nanos;

/// Longest DNS name component: what services and host names are held to.
pub const NAME_LEN_MAX: usize = 63;
/// Longest single text of a spec, bytes.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// Labels of one object.
pub const LABELS_MAX: usize = 1_000;
/// Longest duration in a spec: a year. Adding it to any time cannot overflow.
pub const DURATION_NS_MAX: Nanos = 365 * 24 * 3_600 * 1_000_000_000;
const SECOND_NS: Nanos = 1_000_000_000;

/// Two fields that cannot both have their values: each is named in the other's error.
pub(super) fn conflict(field: &str, other: &str, what: impl AsRef<str>) -> Error {
    Error::invalid(field, format!("{}, as does {other}", what.as_ref()))
        .hint(format!("change or remove one of {other} and {field}"))
}

/// The value of an enum as it came over the wire.
pub(super) fn known<E: Words + TryFrom<i32>>(field: &str, value: i32) -> Result<E> {
    E::try_from(value).map_err(|_| {
        Error::invalid(field, format!("{value} is not a value it can have"))
            .hint(format!("it can be {}", E::all_words()))
    })
}

/// Text without NUL, of bounded length.
pub(super) fn text(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::invalid(field, "contains a NUL character"));
    }
    if value.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(
            field,
            format!(
                "is {} bytes long; at most {TEXT_BYTES_MAX} are allowed",
                value.len()
            ),
        ));
    }
    Ok(())
}

/// Text of one word or more: not empty, no blanks around or control characters in it.
pub(super) fn word(field: &str, value: &str) -> Result<()> {
    text(field, value)?;
    if value.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid(
            field,
            format!("{value:?} contains a blank or a control character"),
        ));
    }
    Ok(())
}

/// A duration: not negative, not absurdly long.
pub(super) fn duration(field: &str, value: Nanos) -> Result<()> {
    if value < 0 {
        return Err(Error::invalid(
            field,
            "is negative; a duration is 0 or more",
        ));
    }
    if value > DURATION_NS_MAX {
        return Err(Error::invalid(
            field,
            format!("is longer than a year ({} s)", value / SECOND_NS),
        ));
    }
    Ok(())
}

/// A duration that is 0 (the default) or at least `least_ns`.
pub(super) fn duration_from(field: &str, value: Nanos, least_ns: Nanos) -> Result<()> {
    duration(field, value)?;
    if value != 0 && value < least_ns {
        return Err(Error::invalid(
            field,
            format!(
                "is {value} ns; it is 0 or at least {} ms",
                least_ns / 1_000_000
            ),
        ));
    }
    Ok(())
}

/// Labels: keys that can be written as `key=value`.
pub(super) fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid(
            field,
            format!(
                "has {} labels; at most {LABELS_MAX} are allowed",
                labels.len()
            ),
        ));
    }
    for (key, value) in labels {
        let at = format!("{field}[{key:?}]");
        if key.is_empty() {
            return Err(Error::invalid(field, "has a label without a key"));
        }
        if key.contains('=') || key.chars().any(char::is_control) {
            return Err(Error::invalid(
                at,
                "a label's key has no = and no control character",
            ));
        }
        text(&at, key)?;
        text(&at, value)?;
    }
    Ok(())
}

/// A DNS name component, as Swarm's services must be named.
pub(super) fn dns_name(field: &str, value: &str) -> Result<()> {
    let hint = "use letters, digits and, in between, - and _; at most 63 characters";
    if value.is_empty() {
        return Err(Error::invalid(field, "a name must be provided").hint(hint));
    }
    if value.len() > NAME_LEN_MAX {
        return Err(Error::invalid(
            field,
            format!(
                "name must be {NAME_LEN_MAX} characters or fewer; this one has {}",
                value.len()
            ),
        )
        .hint(hint));
    }
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !alphanumeric(value.chars().next())
        || !alphanumeric(value.chars().next_back())
        || !value.chars().all(inner)
    {
        return Err(Error::invalid(
            field,
            format!("name {value:?} must be valid as a DNS name component"),
        )
        .hint(hint));
    }
    Ok(())
}

/// An absolute path without `..`.
pub(super) fn absolute_path(field: &str, value: &str) -> Result<()> {
    text(field, value)?;
    if !value.starts_with('/') {
        return Err(Error::invalid(
            field,
            format!("{value:?} is not an absolute path"),
        ));
    }
    if value.split('/').any(|part| part == "..") {
        return Err(Error::invalid(field, format!("{value:?} goes up with ..")));
    }
    Ok(())
}

/// A path without doubled, trailing and `.` parts, to compare it with others.
pub(super) fn clean_path(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

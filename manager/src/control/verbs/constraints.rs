//! The one place where a service's placement constraints are read on the way in.

use skep_proto::{Error, Result};

/// Refuses a constraint that the scheduler could not read.
pub(super) fn check(field: &str, constraints: &[String]) -> Result<()> {
    for (i, constraint) in constraints.iter().enumerate() {
        one(constraint).map_err(|what| {
            Error::invalid(format!("{field}[{i}]"), what).hint(
                "write KEY==VALUE or KEY!=VALUE; keys are node.id, node.hostname, node.ip, node.role, \
                 node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME",
            )
        })?;
    }
    Ok(())
}

fn one(constraint: &str) -> Result<(), String> {
    let operator = match (constraint.find("=="), constraint.find("!=")) {
        (Some(equal), Some(unequal)) => equal.min(unequal),
        (Some(at), None) | (None, Some(at)) => at,
        (None, None) => {
            return Err(format!(
                "{constraint:?}: constraint expected one operator from ==, !="
            ));
        }
    };
    let (key, rest) = constraint.split_at(operator);
    let (key, value) = (key.trim(), rest.get(2..).unwrap_or_default().trim());
    let key_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let key_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if key.len() < 2 || !key.starts_with(key_start) || !key.chars().all(key_char) {
        return Err(format!("key {key:?} is invalid"));
    }
    let value_char = |c: char| c.is_ascii_alphanumeric() || ":-_ .*()?+[]\\^$|/".contains(c);
    if value.is_empty() || !value.chars().all(value_char) {
        return Err(format!("value {value:?} is invalid"));
    }
    let lower = key.to_ascii_lowercase();
    let known = [
        "node.id",
        "node.hostname",
        "node.ip",
        "node.role",
        "node.platform.os",
        "node.platform.arch",
    ]
    .contains(&lower.as_str())
        || ["node.labels.", "engine.labels."].iter().any(|scope| {
            lower
                .strip_prefix(scope)
                .is_some_and(|label| !label.is_empty())
        });
    if !known {
        return Err(format!("key {key:?} is not one that nodes have"));
    }
    Ok(())
}

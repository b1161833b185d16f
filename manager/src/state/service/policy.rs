//! How many resources a task gets, where it may run, when it is restarted and
//! how it is updated.

use std::collections::BTreeMap;

use skep_proto::names::Words;
use skep_proto::v1::{
    FailureAction, Placement, ResourceRequirements, RestartCondition, RestartPolicy, TaskSpec,
    UpdateConfig, UpdateOrder,
};
use skep_proto::{Error, Result};

use crate::state::check;

const NANO_CPUS_MIN: i64 = 1_000_000;
/// A million CPUs; sums over a whole swarm stay far from overflow.
const NANO_CPUS_MAX: i64 = 1_000_000 * 1_000_000_000;
const MEMORY_BYTES_MIN: i64 = 4 << 20;
/// 1 PiB.
const MEMORY_BYTES_MAX: i64 = 1 << 50;
/// A task carries the times of its restarts, so there has to be a bound.
const RESTART_ATTEMPTS_MAX: u64 = 10_000;
const CONSTRAINTS_MAX: usize = 100;

pub(super) fn task(task: &TaskSpec, global: bool, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(wanted) = &task.resources {
        resources("task.resources", wanted, warnings)?;
    }
    if let Some(policy) = &task.restart {
        restart("task.restart", policy)?;
    }
    if let Some(wanted) = &task.placement {
        placement("task.placement", wanted, global)?;
    }
    if let Some(driver) = &task.log_driver {
        if driver.name.is_empty() && !driver.options.is_empty() {
            return Err(Error::invalid(
                "task.log_driver.name",
                "is empty although there are options",
            )
            .hint("name the driver that the options are for"));
        }
        check::text("task.log_driver.name", &driver.name)?;
        check::labels("task.log_driver.options", &driver.options)?;
    }
    Ok(())
}

fn resources(field: &str, wanted: &ResourceRequirements, warnings: &mut Vec<String>) -> Result<()> {
    let mut limit = (0, 0);
    if let Some(limits) = &wanted.limits {
        cpus(&format!("{field}.limits.nano_cpus"), limits.nano_cpus)?;
        memory(&format!("{field}.limits.memory_bytes"), limits.memory_bytes)?;
        if limits.pids < 0 {
            return Err(Error::invalid(
                format!("{field}.limits.pids"),
                "is negative; 0 means no limit",
            ));
        }
        limit = (limits.nano_cpus, limits.memory_bytes);
    }
    let Some(reserved) = &wanted.reservations else {
        return Ok(());
    };
    cpus(
        &format!("{field}.reservations.nano_cpus"),
        reserved.nano_cpus,
    )?;
    memory(
        &format!("{field}.reservations.memory_bytes"),
        reserved.memory_bytes,
    )?;
    for (name, reserved, limit) in [
        ("nano_cpus", reserved.nano_cpus, limit.0),
        ("memory_bytes", reserved.memory_bytes, limit.1),
    ] {
        if limit != 0 && reserved > limit {
            warnings.push(format!(
                "{field}.reservations.{name} is above {field}.limits.{name}: tasks reserve what they cannot use"
            ));
        }
    }
    Ok(())
}

fn cpus(field: &str, value: i64) -> Result<()> {
    if value == 0 || (NANO_CPUS_MIN..=NANO_CPUS_MAX).contains(&value) {
        return Ok(());
    }
    let at_least = if value > 0 && value < NANO_CPUS_MIN {
        "Must be at least 0.001"
    } else {
        "Must lie between 0.001 and 1000000"
    };
    Err(Error::invalid(
        field,
        format!("invalid cpu value {}: {at_least}", billionths(value)),
    ))
}

/// `1500000` as `0.0015`: no float, whose text could differ between hosts.
fn billionths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let text = format!(
        "{sign}{}.{:09}",
        value / 1_000_000_000,
        value % 1_000_000_000
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn memory(field: &str, value: i64) -> Result<()> {
    if value == 0 || (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&value) {
        return Ok(());
    }
    let range = if value > MEMORY_BYTES_MAX {
        "Must be at most 1PiB"
    } else {
        "Must be at least 4MiB"
    };
    Err(Error::invalid(
        field,
        format!("invalid memory value {value}: {range}"),
    ))
}

fn restart(field: &str, policy: &RestartPolicy) -> Result<()> {
    check::known::<RestartCondition>(&format!("{field}.condition"), policy.condition)?;
    check::duration(&format!("{field}.delay_ns"), policy.delay_ns.unwrap_or(0))?;
    check::duration(&format!("{field}.window_ns"), policy.window_ns)?;
    if policy.max_attempts > RESTART_ATTEMPTS_MAX {
        return Err(Error::invalid(
            format!("{field}.max_attempts"),
            format!(
                "is {}; at most {RESTART_ATTEMPTS_MAX} are counted",
                policy.max_attempts
            ),
        )
        .hint("0 means no limit"));
    }
    Ok(())
}

fn placement(field: &str, wanted: &Placement, global: bool) -> Result<()> {
    if wanted.constraints.len() > CONSTRAINTS_MAX {
        return Err(Error::invalid(
            format!("{field}.constraints"),
            format!(
                "has {}; at most {CONSTRAINTS_MAX} are allowed",
                wanted.constraints.len()
            ),
        ));
    }
    if global && wanted.max_replicas != 0 {
        return Err(check::conflict(
            &format!("{field}.max_replicas"),
            "global",
            "fixes the number of tasks per node",
        ));
    }
    for (i, platform) in wanted.platforms.iter().enumerate() {
        check::text(
            &format!("{field}.platforms[{i}].architecture"),
            &platform.architecture,
        )?;
        check::text(&format!("{field}.platforms[{i}].os"), &platform.os)?;
    }
    contradictions(field, &wanted.constraints)
}

/// Two constraints that no node can meet together. (Addresses may overlap.)
fn contradictions(field: &str, constraints: &[String]) -> Result<()> {
    let mut equal: BTreeMap<String, (String, String)> = BTreeMap::new();
    let parts = |text: &str| {
        let (key, value) = text.split_once("==")?;
        let key = key.trim();
        // Keys are compared without case, but for the label's own name.
        let key = match key.match_indices(".labels.").next() {
            Some((at, dots)) => {
                let (scope, label) = key.split_at(at + dots.len());
                format!("{}{label}", scope.to_lowercase())
            }
            None => key.to_lowercase(),
        };
        (key != "node.ip").then(|| (key, value.trim().to_lowercase()))
    };
    for (i, constraint) in constraints.iter().enumerate() {
        let Some((key, value)) = parts(constraint) else {
            continue;
        };
        let at = format!("{field}.constraints[{i}]");
        if let Some((other, wanted)) = equal.get(&key)
            && *wanted != value
        {
            let what = format!(
                "wants {key} to be {value:?}, which cannot also be {wanted:?}: it is constrained"
            );
            return Err(check::conflict(&at, other, what));
        }
        equal.insert(key, (at, value));
    }
    Ok(())
}

pub(super) fn update(field: &str, config: &UpdateConfig) -> Result<()> {
    check::known::<FailureAction>(&format!("{field}.failure_action"), config.failure_action)?;
    check::known::<UpdateOrder>(&format!("{field}.order"), config.order)?;
    check::duration(&format!("{field}.delay_ns"), config.delay_ns)?;
    check::duration(
        &format!("{field}.monitor_ns"),
        config.monitor_ns.unwrap_or(0),
    )?;
    // NaN lies in no range.
    if !(0.0..=1.0).contains(&config.max_failure_ratio) {
        return Err(Error::invalid(
            format!("{field}.max_failure_ratio"),
            format!("{} is not between 0 and 1", config.max_failure_ratio),
        ));
    }
    Ok(())
}

pub(super) fn rollback(field: &str, config: &UpdateConfig) -> Result<()> {
    update(field, config)?;
    if config.failure_action() == FailureAction::Rollback {
        return Err(Error::invalid(
            format!("{field}.failure_action"),
            "a rollback that fails cannot be rolled back",
        )
        .hint(format!(
            "it can be {}, {}",
            FailureAction::Pause.word(),
            FailureAction::Continue.word()
        )));
    }
    Ok(())
}

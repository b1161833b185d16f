//! The rules of a service: what its spec can say ([`validate`]), how two specs
//! that mean the same are made equal ([`canonical`]), and which changes need
//! new tasks ([`replaces_tasks`]). Every face derives from these.

mod canonical;
mod container;
mod endpoint;
mod image;
mod mount;
mod placeholder;
mod policy;

pub use canonical::{canonical, replaces_tasks};
pub use image::registry;
pub use placeholder::PLACEHOLDERS;

use prost::Message;
use skep_proto::v1::ServiceSpec;
use skep_proto::{Error, Result};

use super::{Nanos, check};

/// Replicas of one service.
pub const REPLICAS_MAX: u64 = 100_000;
/// Whole spec, encoded; a proposal has to hold several.
pub const SPEC_BYTES_MAX: usize = 1 << 20;
/// How long a container may take to stop, when the spec says nothing.
pub const STOP_GRACE_PERIOD_NS_DEFAULT: Nanos = 10 * 1_000_000_000;
/// Pause before a task is restarted, when the spec says nothing.
pub const RESTART_DELAY_NS_DEFAULT: Nanos = 5 * 1_000_000_000;
/// How long an updated task is watched, when the spec says nothing.
pub const UPDATE_MONITOR_NS_DEFAULT: Nanos = 5 * 1_000_000_000;

/// Refuses what a service's spec cannot say, by the path of the field in the
/// caller's own order. Returns what is allowed but probably not meant.
/// The syntax of placement constraints is the scheduler's to check.
pub fn validate(spec: &ServiceSpec) -> Result<Vec<String>> {
    let bytes = spec.encoded_len();
    if bytes > SPEC_BYTES_MAX {
        return Err(Error::invalid(
            "",
            format!("the spec has {bytes} bytes; at most {SPEC_BYTES_MAX} are allowed"),
        ));
    }
    check::dns_name("name", &spec.name)?;
    check::labels("labels", &spec.labels)?;
    if spec.replicas() > REPLICAS_MAX {
        return Err(Error::invalid(
            "replicated.replicas",
            format!("is {}; at most {REPLICAS_MAX} are allowed", spec.replicas()),
        ));
    }
    let task = spec.task.as_ref().ok_or_else(|| {
        Error::invalid("task", "is missing").hint("say at least which image to run")
    })?;
    let container = task.container.as_ref().ok_or_else(|| {
        Error::invalid("task.container", "is missing").hint("say at least which image to run")
    })?;
    container::validate("task.container", container)?;
    let mut warnings = Vec::new();
    policy::task(task, spec.is_global(), &mut warnings)?;
    if let Some(update) = &spec.update {
        policy::update("update", update)?;
    }
    if let Some(rollback) = &spec.rollback {
        policy::rollback("rollback", rollback)?;
    }
    if let Some(endpoint) = &spec.endpoint {
        endpoint::validate("endpoint", endpoint)?;
    }
    Ok(warnings)
}

#[cfg(test)]
pub(crate) mod tests;

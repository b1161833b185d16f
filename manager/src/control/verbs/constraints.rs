//! The one place where a service's placement constraints are read on the way in.

use skep_proto::Result;

use crate::engine::schedule::constraint::{Constraint, KEYS};

/// Refuses a constraint that the scheduler could not read.
pub(super) fn check(field: &str, constraints: &[String]) -> Result<()> {
    for (i, constraint) in constraints.iter().enumerate() {
        Constraint::parse(constraint).map_err(|error| {
            error
                .at(format!("{field}[{i}]"))
                .hint(format!("write KEY==VALUE or KEY!=VALUE; keys are {KEYS}"))
        })?;
    }
    Ok(())
}

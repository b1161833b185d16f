//! The rules of a node's spec.

use skep_proto::v1::{Availability, NodeSpec, Role};
use skep_proto::{Error, Result};

use super::check;

/// Refuses what a node's spec cannot say.
pub fn validate(spec: &NodeSpec) -> Result<()> {
    if !spec.name.is_empty() {
        check::dns_name("name", &spec.name)?;
    }
    check::labels("labels", &spec.labels)?;
    check::known::<Role>("role", spec.role)?;
    check::known::<Availability>("availability", spec.availability)?;
    Ok(())
}

/// An id as this swarm makes them: lower-case letters and digits.
pub fn validate_id(field: &str, id: &str) -> Result<()> {
    let fits = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("{id:?} is not an id: 1 to 64 lower-case letters and digits"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_out_of_range_are_refused_by_their_path() {
        let cases = [
            (
                NodeSpec {
                    role: 7,
                    ..NodeSpec::default()
                },
                "role",
            ),
            (
                NodeSpec {
                    availability: -1,
                    ..NodeSpec::default()
                },
                "availability",
            ),
            (
                NodeSpec {
                    name: "a.b".to_owned(),
                    ..NodeSpec::default()
                },
                "name",
            ),
            (
                NodeSpec {
                    labels: [(String::new(), "x".to_owned())].into(),
                    ..NodeSpec::default()
                },
                "labels",
            ),
        ];
        for (spec, field) in cases {
            assert_eq!(validate(&spec).unwrap_err().field, field);
        }
        assert_eq!(validate(&NodeSpec::default()), Ok(()));
    }
}

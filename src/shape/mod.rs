//! The swarm's objects in the JSON that Docker's clients know: PascalCase
//! names, durations in nanoseconds, RFC 3339 times. `inspect` prints it and
//! templates read it.
//!
//! Invariant: pure; what is secret (registry credentials, the CA's key) has no
//! field here.

mod cluster;
mod event;
mod node;
mod service;
mod spec;
mod task;

use serde::Serialize;
use skep_proto::v1::Meta;

use crate::ui::human;

pub use cluster::Cluster;
pub use event::{Event, action_word};
pub use node::Node;
pub use service::Service;
pub use spec::ServiceSpec;
pub use task::{Task, filter_word};

/// When an object's spec last changed.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    index: u64,
}

/// What every object begins with.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Head {
    #[serde(rename = "ID")]
    id: String,
    version: Version,
    created_at: String,
    updated_at: String,
}

impl Head {
    fn of(meta: &Meta) -> Self {
        Self {
            id: meta.id.clone(),
            version: Version {
                index: meta.version,
            },
            created_at: human::rfc3339(meta.created_at_ns),
            updated_at: human::rfc3339(meta.updated_at_ns),
        }
    }
}

/// Whether a value says nothing, and is left out as Docker leaves it out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// JSON as `inspect` prints it: four spaces, fields in Docker's order.
pub fn pretty<T: Serialize>(value: &T) -> skep_proto::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|e| skep_proto::Error::internal(format!("cannot be written as JSON: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same as a value, for templates.
pub fn value<T: Serialize>(value: &T) -> skep_proto::Result<serde_json::Value> {
    serde_json::to_value(value)
        .map_err(|e| skep_proto::Error::internal(format!("cannot be written as JSON: {e}")))
}

//! Something that happened.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::v1;

/// An event as the Engine API has it.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'static str,
    #[serde(rename = "Actor")]
    actor: Actor,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Clone, Serialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl From<&v1::Event> for Event {
    fn from(event: &v1::Event) -> Self {
        Self {
            kind: event.kind().word(),
            action: action_word(event.action()),
            actor: Actor {
                id: event.id.clone(),
                attributes: event.attributes.clone(),
            },
            scope: "swarm",
            time: event.at_ns / 1_000_000_000,
            time_nano: event.at_ns,
        }
    }
}

/// What happened in a word.
pub fn action_word(action: v1::event::Action) -> &'static str {
    match action {
        v1::event::Action::Create => "create",
        v1::event::Action::Update => "update",
        v1::event::Action::Remove => "remove",
    }
}

//! JSON values as template values, and back.

use std::collections::HashMap;

use gtmpl_ng::{Number, NumberKind, Value as Go};
use serde_json::{Map, Value as Json};

pub(super) fn from_json(json: &Json) -> Go {
    match json {
        Json::Null => Go::Nil,
        Json::Bool(value) => Go::Bool(*value),
        Json::String(text) => Go::String(text.clone()),
        Json::Number(number) => Go::Number(
            number
                .as_i64()
                .map(Number::signed)
                .or_else(|| number.as_u64().map(Number::unsigned))
                .unwrap_or_else(|| Number::float(number.as_f64().unwrap_or(f64::NAN))),
        ),
        Json::Array(items) => Go::Array(items.iter().map(from_json).collect()),
        Json::Object(entries) => Go::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), from_json(value)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

pub(super) fn to_json(value: &Go) -> Json {
    match value {
        Go::NoValue | Go::Nil | Go::Function(_) => Json::Null,
        Go::Bool(value) => Json::Bool(*value),
        Go::String(text) => Json::String(text.clone()),
        Go::Number(number) => match number.kind() {
            NumberKind::Unsigned(n) => n.into(),
            NumberKind::Signed(n) => n.into(),
            NumberKind::Float(n) => n.into(),
        },
        Go::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Go::Object(entries) | Go::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), to_json(value)))
                .collect::<Map<_, _>>(),
        ),
    }
}

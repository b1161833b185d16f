//! What is true of a world whatever is decided: a second judge, who knows
//! nothing of the engine. Run after every step of a simulation.

mod capacity;
mod history;
mod host_port;
mod max_replicas;
mod node;
mod reference;
mod slot;

use std::fmt;

use super::World;

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The property, as its file is called.
    pub property: &'static str,
    /// What breaks it.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

type Property = (&'static str, fn(&World) -> Vec<String>);

const PROPERTIES: [Property; 7] = [
    ("slot", slot::check),
    ("node", node::check),
    ("capacity", capacity::check),
    ("host_port", host_port::check),
    ("max_replicas", max_replicas::check),
    ("reference", reference::check),
    ("history", history::check),
];

/// Everything that is wrong with a world between two transactions.
pub fn check(world: &World) -> Vec<Violation> {
    let violations = |(property, check): &Property| {
        let found = check(world).into_iter();
        let property = *property;
        found
            .map(move |what| Violation { property, what })
            .collect::<Vec<_>>()
    };
    PROPERTIES.iter().flat_map(violations).collect()
}

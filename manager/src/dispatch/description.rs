//! How a node describes itself, as far as it can at the moment.

use skep_proto::v1::NodeDescription;

use crate::state::World;

/// What the swarm is told that a node is. An agent that has just started, or
/// whose engine does not answer, does not know what the host has: what it was
/// stands, and only the engine's error is new. Else every task with a
/// reservation would lose its place when an agent restarts.
pub fn completed(world: &World, node_id: &str, new: NodeDescription) -> NodeDescription {
    let known = world.node(node_id).and_then(|n| n.description.as_ref());
    let (None, Some(known)) = (new.resources, known) else {
        return new;
    };
    let mut completed = known.clone();
    completed.hostname = new.hostname;
    completed.platform = new.platform.or(completed.platform);
    let error = new.engine.map(|engine| engine.error).unwrap_or_default();
    if !error.is_empty() || completed.engine.is_some() {
        completed.engine.get_or_insert_default().error = error;
    }
    completed
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{EngineDescription, Resources};

    use super::*;
    use crate::dispatch::testkit::{node, put, world_of};

    #[test]
    fn what_a_host_has_stands_while_its_engine_is_silent() {
        let mut known = node("n1");
        let full = NodeDescription {
            hostname: "old".to_owned(),
            resources: Some(Resources {
                nano_cpus: 4,
                memory_bytes: 8,
            }),
            engine: Some(EngineDescription {
                version: "27".to_owned(),
                ..EngineDescription::default()
            }),
            ..NodeDescription::default()
        };
        known.description = Some(full.clone());
        let world = world_of([put(known)]);
        let silent = NodeDescription {
            hostname: "new".to_owned(),
            engine: Some(EngineDescription {
                error: "no answer".to_owned(),
                ..EngineDescription::default()
            }),
            ..NodeDescription::default()
        };
        let told = completed(&world, "n1", silent.clone());
        assert_eq!(
            (told.hostname.as_str(), told.resources),
            ("new", full.resources)
        );
        let engine = told.engine.unwrap();
        assert_eq!(
            (engine.version.as_str(), engine.error.as_str()),
            ("27", "no answer")
        );
        assert_eq!(completed(&world, "n1", full.clone()), full);
        assert_eq!(completed(&world, "n2", silent.clone()), silent);
    }
}

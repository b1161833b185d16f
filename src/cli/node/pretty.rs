//! A node for people to read, in Docker's blocks.

use std::fmt::Write;

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::Node;

use crate::cli::rows::capitalized;
use crate::ui::human;

/// The block of one node.
pub fn node(node: &Node) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, node);
    text
}

fn write(text: &mut String, node: &Node) -> std::fmt::Result {
    let spec = node.spec.clone().unwrap_or_default();
    let status = node.status.clone().unwrap_or_default();
    let description = node.description.clone().unwrap_or_default();
    writeln!(text, "ID:\t\t\t{}", node.id())?;
    if !spec.name.is_empty() {
        writeln!(text, "Name:\t\t\t{}", spec.name)?;
    }
    if !spec.labels.is_empty() {
        writeln!(text, "Labels:")?;
        for (key, value) in &spec.labels {
            writeln!(text, " - {key}={value}")?;
        }
    }
    writeln!(text, "Hostname:              \t{}", description.hostname)?;
    writeln!(
        text,
        "Joined at:             \t{}",
        human::utc(node.meta().created_at_ns)
    )?;
    writeln!(text, "Status:")?;
    writeln!(text, " State:\t\t\t{}", capitalized(node.state().word()))?;
    if !status.message.is_empty() {
        writeln!(text, " Message:              \t{}", status.message)?;
    }
    writeln!(
        text,
        " Availability:         \t{}",
        capitalized(node.availability().word())
    )?;
    writeln!(text, " Address:\t\t{}", status.addr)?;
    if let Some(manager) = &node.manager {
        writeln!(text, "Manager Status:")?;
        writeln!(text, " Address:\t\t{}", manager.addr)?;
        writeln!(
            text,
            " Raft Status:\t\t{}",
            capitalized(manager.reachability().word())
        )?;
        let leader = if manager.leader { "Yes" } else { "No" };
        writeln!(text, " Leader:\t\t{leader}")?;
    }
    let platform = description.platform.unwrap_or_default();
    writeln!(text, "Platform:")?;
    writeln!(text, " Operating System:\t{}", platform.os)?;
    writeln!(text, " Architecture:\t\t{}", platform.architecture)?;
    let resources = description.resources.unwrap_or_default();
    writeln!(text, "Resources:")?;
    writeln!(text, " CPUs:\t\t\t{}", human::cpus(resources.nano_cpus))?;
    writeln!(text, " Memory:\t\t{}", human::bytes(resources.memory_bytes))?;
    let engine = description.engine.unwrap_or_default();
    if !engine.plugins.is_empty() {
        writeln!(text, "Plugins:")?;
        let mut kinds: Vec<&str> = engine.plugins.iter().map(|p| p.r#type.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let mut names: Vec<&str> = engine
                .plugins
                .iter()
                .filter(|p| p.r#type == kind)
                .map(|p| p.name.as_str())
                .collect();
            names.sort_unstable();
            writeln!(text, " {kind}:\t\t{}", names.join(", "))?;
        }
    }
    writeln!(text, "Engine Version:\t\t{}", engine.version)?;
    if !engine.error.is_empty() {
        writeln!(text, "Engine Error:\t\t{}", engine.error)?;
    }
    if !engine.labels.is_empty() {
        writeln!(text, "Engine Labels:")?;
        for (key, value) in &engine.labels {
            writeln!(text, " - {key}={value}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::node as example;

    #[test]
    fn the_blocks_are_dockers() {
        insta::assert_snapshot!(node(&example("n1", "alpha", Some(true))), @r#"
        ID:			n1
        Labels:
         - zone=eu
        Hostname:              	alpha
        Joined at:             	2026-01-02 03:04:05 +0000 utc
        Status:
         State:			Ready
         Availability:         	Active
         Address:		10.0.0.1
        Manager Status:
         Address:		10.0.0.1:2377
         Raft Status:		Reachable
         Leader:		Yes
        Platform:
         Operating System:	linux
         Architecture:		x86_64
        Resources:
         CPUs:			4
         Memory:		8GiB
        Plugins:
         Log:		json-file, local
        Engine Version:		28.2.2
        "#);
    }
}

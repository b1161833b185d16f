//! `skep node ls`

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{FilterTerm, Node};

use crate::cli::rows::capitalized;
use crate::cli::{CommandResult, Session, parse};
use crate::format::{Column, Listing};
use crate::ui::Ui;
use crate::ui::table::natural;

/// List the hosts of the swarm
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub struct Args {
    /// Keep nodes that fit: id, name, label, node.label, role, membership (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    /// table, json, or a Go template such as '{{.Hostname}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &[Column] = &[
    Column::extra("Self", "SELF"),
    Column::extra("ID", "ID"),
    Column::extra("Hostname", "HOSTNAME"),
    Column::extra("Status", "STATUS"),
    Column::extra("Availability", "AVAILABILITY"),
    Column::extra("ManagerStatus", "MANAGER STATUS"),
    Column::extra("EngineVersion", "ENGINE VERSION"),
    Column::extra("Address", "ADDRESS"),
];

const TABLE: &str = "table {{.ID}}{{if eq .Self \"true\"}} *{{else}}  {{end}}\t{{.Hostname}}\t\
                     {{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}";

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut nodes = client.nodes(args.filter).await?;
    nodes.sort_by(|a, b| natural(a.hostname(), b.hostname()).then_with(|| a.id().cmp(b.id())));
    if args.quiet {
        for node in &nodes {
            ui.line(node.id())?;
        }
        return Ok(());
    }
    // Elsewhere "self" would be whichever manager answers.
    let own = if client.is_local() {
        client.info().await.map(|i| i.node_id).unwrap_or_default()
    } else {
        String::new()
    };
    ui.data(&render(&nodes, &own, args.format.as_deref())?)?;
    Ok(())
}

fn render(nodes: &[Node], own: &str, format: Option<&str>) -> skep_proto::Result<String> {
    let mut listing = Listing::new(COLUMNS);
    for node in nodes {
        let engine = node.description.as_ref().and_then(|d| d.engine.as_ref());
        listing.push(vec![
            (node.id() == own).to_string(),
            node.id().to_owned(),
            node.hostname().to_owned(),
            capitalized(node.state().word()),
            capitalized(node.availability().word()),
            manager_status(node),
            engine.map(|e| e.version.clone()).unwrap_or_default(),
            node.status
                .as_ref()
                .map(|s| s.addr.clone())
                .unwrap_or_default(),
        ]);
    }
    match format.map(str::trim) {
        None | Some("" | "table") => listing.render(Some(TABLE)),
        format => listing.render(format),
    }
}

fn manager_status(node: &Node) -> String {
    match &node.manager {
        Some(manager) if manager.leader => "Leader".into(),
        Some(manager) => capitalized(manager.reachability().word()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::node;

    #[test]
    fn the_columns_are_dockers_and_self_has_a_star() {
        let nodes = [node("n1", "alpha", Some(true)), node("n2", "beta", None)];
        insta::assert_snapshot!(render(&nodes, "n1", None).unwrap(), @r#"
        ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION
        n1 *      alpha      Ready     Active         Leader           28.2.2
        n2        beta       Ready     Active                          28.2.2
        "#);
        insta::assert_snapshot!(render(&[], "", None).unwrap(), @"ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION");
        insta::assert_snapshot!(
            render(&nodes, "n1", Some("{{.Hostname}} {{.Self}}")).unwrap(), @r#"
        alpha true
        beta false
        "#
        );
    }
}

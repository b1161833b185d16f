//! `skep node inspect`

use clap_complete::ArgValueCandidates;

use super::pretty;
use crate::cli::completion;
use crate::cli::inspect::{Format, each, print_found};
use crate::cli::{CommandResult, Session};
use crate::shape;
use crate::ui::Ui;

/// Show all about nodes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: Format,
    /// Print for people to read
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Id, hostname, unique prefix, or self
    #[arg(value_name = "NODE", required = true, add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let found = each(ui, &args.nodes, |node| {
        let client = &client;
        async move { client.node(&node).await }
    })
    .await;
    if args.pretty {
        let (nodes, result) = match found {
            Ok(nodes) => (nodes, Ok(())),
            Err((nodes, error)) => (nodes, Err(error)),
        };
        let texts: Vec<String> = nodes.iter().map(pretty::node).collect();
        ui.data(&texts.join("\n"))?;
        return result;
    }
    let shapes = |nodes: Vec<_>| nodes.iter().map(shape::Node::from).collect();
    let found = found.map(shapes).map_err(|(nodes, e)| (shapes(nodes), e));
    print_found(ui, args.format.format.as_deref(), found)
}

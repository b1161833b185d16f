//! `skep node ps`

use clap_complete::ArgValueCandidates;
use skep_proto::objects::Identified;
use skep_proto::v1::FilterTerm;

use crate::cli::rows::{Names, Tasks};
use crate::cli::{CommandResult, Session, completion, parse};
use crate::client::term;
use crate::ui::Ui;

/// List the tasks on nodes, by default on this one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep tasks that fit: id, name, service, label, desired-state (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    #[command(flatten)]
    tasks: Tasks,
    /// Id, hostname, unique prefix, or self
    #[arg(value_name = "NODE", default_value = "self",
          add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut filters = args.filter;
    for node in &args.nodes {
        // Resolved here, so that a node that is not there is an error.
        filters.push(term("node", client.node(node).await?.id()));
    }
    let tasks = client.tasks(filters).await?;
    let names = Names::fetch(&client).await?;
    args.tasks.print(ui, tasks, &names)
}

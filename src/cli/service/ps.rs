//! `skep service ps`

use clap_complete::ArgValueCandidates;
use skep_proto::objects::Identified;
use skep_proto::v1::FilterTerm;

use crate::cli::inspect::each;
use crate::cli::rows::{Names, Tasks};
use crate::cli::{CommandResult, Session, completion, parse};
use crate::client::term;
use crate::ui::Ui;

/// List the tasks of services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep tasks that fit: id, name, node, desired-state (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    #[command(flatten)]
    tasks: Tasks,
    /// Id, name or unique prefix
    #[arg(value_name = "SERVICE", required = true,
          add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let found = each(ui, &args.services, |reference| {
        let client = &client;
        async move { client.service(&reference).await }
    })
    .await;
    let (services, result) = match found {
        Ok(services) => (services, Ok(())),
        Err((services, error)) => (services, Err(error)),
    };
    if services.is_empty() {
        return result;
    }
    let mut filters = args.filter;
    filters.extend(services.iter().map(|s| term("service", s.id())));
    let tasks = client.tasks(filters).await?;
    let nodes = client.nodes(Vec::new()).await?;
    args.tasks.print(ui, tasks, &Names::of(services, nodes))?;
    result
}

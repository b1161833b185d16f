//! `skep task ls`

use skep_proto::v1::FilterTerm;

use crate::cli::rows::{Names, Tasks};
use crate::cli::{CommandResult, Session, parse};
use crate::ui::Ui;

/// List the tasks of all services
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub struct Args {
    /// Keep tasks that fit: id, name, service, node, label, desired-state (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    #[command(flatten)]
    tasks: Tasks,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let tasks = client.tasks(args.filter).await?;
    let names = Names::fetch(&client).await?;
    args.tasks.print(ui, tasks, &names)
}

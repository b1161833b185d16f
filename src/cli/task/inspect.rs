//! `skep task inspect`

use clap_complete::ArgValueCandidates;

use crate::cli::inspect::{Format, each, print_found};
use crate::cli::{CommandResult, Session, completion};
use crate::shape;
use crate::ui::Ui;

/// Show all about tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: Format,
    /// Id or unique prefix
    #[arg(value_name = "TASK", required = true, add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let found = each(ui, &args.tasks, |reference| {
        let client = &client;
        async move {
            let task = client.task(&reference).await?;
            // The template is the service's; a service that is gone has taken it along.
            let service = client.service(&task.service_id).await.ok();
            Ok(shape::Task::new(&task, service.as_ref()))
        }
    })
    .await;
    print_found(ui, args.format.format.as_deref(), found)
}

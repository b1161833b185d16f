//! `skep service rm`

use clap_complete::ArgValueCandidates;
use skep_proto::v1::RemoveService;
use skep_proto::v1::write_request::Verb;

use crate::cli::{CommandError, CommandResult, Exit, Session, completion};
use crate::ui::Ui;

/// Remove services and stop their tasks
#[derive(Debug, clap::Args)]
#[command(visible_alias = "remove")]
pub struct Args {
    /// Id, name or unique prefix
    #[arg(value_name = "SERVICE", required = true,
          add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut failed = false;
    for service in &args.services {
        let verb = Verb::RemoveService(RemoveService {
            service: service.clone(),
        });
        match client.write(verb).await {
            Ok(_) => ui.line(service)?,
            Err(error) => {
                failed = true;
                ui.error(&error);
            }
        }
    }
    if failed {
        return Err(CommandError::said(Exit::Failed));
    }
    Ok(())
}

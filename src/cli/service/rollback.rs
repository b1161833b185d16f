//! `skep service rollback`

use clap_complete::ArgValueCandidates;
use skep_proto::objects::Identified;
use skep_proto::v1::UpdateService;
use skep_proto::v1::write_request::Verb;

use crate::cli::converge::{Waiting, converge};
use crate::cli::{CommandResult, Session, completion};
use crate::ui::Ui;

/// Take back the last change of a service's spec
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    waiting: Waiting,
    /// Id, name or unique prefix
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let service = client.service(&args.service).await?;
    let response = client
        .write(Verb::UpdateService(UpdateService {
            service: service.id().to_owned(),
            version: service.meta().version,
            spec: None,
            rollback: true,
        }))
        .await?;
    ui.line(&args.service)?;
    for warning in &response.warnings {
        ui.warning(warning);
    }
    converge(ui, &client, service.id(), &args.waiting.for_rollback()).await
}

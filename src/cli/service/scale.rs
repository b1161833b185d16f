//! `skep service scale`

use clap_complete::ArgValueCandidates;
use skep_proto::v1::ScaleService;
use skep_proto::v1::write_request::Verb;

use crate::cli::converge::{Waiting, converge};
use crate::cli::{CommandError, CommandResult, Exit, Session, completion};
use crate::ui::Ui;

/// Change how many tasks services have
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    waiting: Waiting,
    /// A service and its new number of replicas
    #[arg(value_name = "SERVICE=REPLICAS", required = true, value_parser = scale,
          add = ArgValueCandidates::new(completion::services))]
    scales: Vec<(String, u64)>,
}

fn scale(text: &str) -> Result<(String, u64), String> {
    text.split_once('=')
        .and_then(|(service, count)| Some((service.to_owned(), count.parse().ok()?)))
        .filter(|(service, _)| !service.is_empty())
        .ok_or_else(|| "expected SERVICE=REPLICAS, such as web=5".into())
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut scaled = Vec::new();
    let mut failed = false;
    for (service, replicas) in &args.scales {
        let verb = Verb::ScaleService(ScaleService {
            service: service.clone(),
            replicas: *replicas,
        });
        match client.write(verb).await {
            Ok(response) => {
                ui.line(&format!("{service} scaled to {replicas}"))?;
                for warning in &response.warnings {
                    ui.warning(warning);
                }
                scaled.push(response.id);
            }
            Err(error) => {
                failed = true;
                ui.error(&error);
            }
        }
    }
    let waiting = args.waiting.for_scale();
    let mut worst = None;
    for id in &scaled {
        if let Err(error) = converge(ui, &client, id, &waiting).await {
            if let Some(said) = &error.error {
                ui.error(said);
            }
            worst = Some(error.exit);
        }
    }
    match worst {
        _ if failed => Err(CommandError::said(Exit::Failed)),
        Some(exit) => Err(CommandError::said(exit)),
        None => Ok(()),
    }
}

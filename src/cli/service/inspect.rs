//! `skep service inspect`

use clap_complete::ArgValueCandidates;

use super::pretty;
use crate::cli::inspect::{Format, each, print_found};
use crate::cli::{CommandResult, Session, completion};
use crate::shape;
use crate::ui::Ui;

/// Show all about services
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: Format,
    /// Print for people to read
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Id, name or unique prefix
    #[arg(value_name = "SERVICE", required = true,
          add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let found = each(ui, &args.services, |service| {
        let client = &client;
        async move { client.service(&service).await }
    })
    .await;
    let format = args.format.format.as_deref().map(str::trim);
    if args.pretty || format == Some("pretty") {
        let (services, result) = match found {
            Ok(services) => (services, Ok(())),
            Err((services, error)) => (services, Err(error)),
        };
        let now_ns = ui.now_ns();
        let texts: Vec<String> = services
            .iter()
            .map(|s| pretty::service(s, now_ns))
            .collect();
        ui.data(&texts.join("\n"))?;
        return result;
    }
    let shapes = |services: Vec<_>| services.iter().map(shape::Service::from).collect();
    let found = found
        .map(shapes)
        .map_err(|(services, e)| (shapes(services), e));
    print_found(ui, format, found)
}

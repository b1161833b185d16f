//! `skep drill failover`

use std::time::Duration;

use skep_proto::objects::Identified;
use skep_proto::transport::{DialOptions, Trust, dial_lazy};
use skep_proto::{Code, Error, Result};

use super::super::{CommandError, CommandResult, Exit, Session, parse};
use crate::client::Client;
use crate::drill::{self, Manager, Mode, Options, Report};
use crate::ui::Ui;

/// How long the drill's certificate is good for.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Width of the picture where there is no terminal.
const COLUMNS: usize = 100;

/// End the leader under load, and measure what clients feel
///
/// Writes and reads go through every other manager while the leader is ended.
/// Nothing may be lost and no task may change. Refused where the managers left
/// would be too few for a quorum. What the load creates is removed again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Abort the leader's process (the default)
    #[arg(long, group = "mode")]
    kill: bool,
    /// Tell the leader to stop, as by SIGTERM
    #[arg(long, group = "mode")]
    stop: bool,
    /// Drop the leader's packets for a while without closing its connections
    #[arg(long, group = "mode")]
    cut: bool,
    /// How long a cut lasts
    #[arg(long, value_name = "DURATION", default_value = "2500ms", value_parser = parse::duration)]
    cut_for: i64,
    /// Do it so many times, each time to whoever leads then
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Writing, and as many reading, clients at each manager
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Wait so long for the swarm to serve, and for the ended manager to be back
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse::duration)]
    wait: i64,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let options = options(&args);
    let client = session.client().await?;
    let managers = managers(&client).await?;
    let mut reports: Vec<Report> = Vec::new();
    for round in 1..=args.rounds {
        ui.status(&format!(
            "round {round} of {}: load on every manager, then the leader is {}",
            args.rounds,
            options.mode.done()
        ));
        let report = drill::run(&managers, &options, round).await?;
        if args.format == "text" {
            ui.data(&drill::text(&report, ui.out_columns().unwrap_or(COLUMNS)))?;
        }
        reports.push(report);
    }
    if args.format == "json" {
        ui.line(&serde_json::to_string_pretty(&drill::json(&reports)).map_err(unprintable)?)?;
    } else if reports.len() > 1 {
        ui.data(&drill::summary(&reports))?;
    }
    verdict(&reports)
}

/// A drill that lost a write or touched a task has failed.
fn verdict(reports: &[Report]) -> CommandResult {
    let lost: usize = reports.iter().map(|r| r.writes_lost).sum();
    let changed: usize = reports.iter().map(|r| r.tasks_changed).sum();
    if lost == 0 && changed == 0 {
        return Ok(());
    }
    Err(CommandError::new(
        Exit::Failed,
        Error::new(
            Code::Internal,
            format!("{lost} acknowledged writes were lost and {changed} tasks changed"),
        )
        .hint(
            "tasks change when the ended daemon stays away for longer than its node's grace: a \
             supervisor should restart it at once",
        ),
    ))
}

fn options(args: &Args) -> Options {
    let duration = |ns: i64| Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    Options {
        mode: match (args.stop, args.cut) {
            (true, _) => Mode::Stop,
            (_, true) => Mode::Cut,
            _ => Mode::Kill,
        },
        rounds: args.rounds,
        cut_for: duration(args.cut_for),
        clients: usize::try_from(args.clients).unwrap_or(1),
        patience: duration(args.wait),
        ..Options::default()
    }
}

/// Every manager of the swarm, each by a connection of its own.
async fn managers(client: &Client) -> Result<Vec<Manager>> {
    let credentials = client.credentials("drill", CERTIFICATE_LIFE).await?;
    let trust = Trust::Credentials(credentials);
    let nodes = client.nodes(Vec::new()).await?;
    Ok(nodes
        .iter()
        .filter_map(|node| {
            let addr = node.manager.as_ref()?.addr.clone();
            Some(Manager {
                node_id: node.id().to_owned(),
                hostname: node.hostname().to_owned(),
                channel: dial_lazy(&addr, &trust, &DialOptions::default()),
                addr,
            })
        })
        .collect())
}

fn unprintable(error: serde_json::Error) -> Error {
    Error::internal(format!("the report cannot be printed: {error}"))
}

//! `skep completion`, and the names that shells complete.

use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use skep_proto::objects::Identified;
use skep_proto::v1::Kind;
use skep_proto::{Error, Result};

use super::{CommandError, CommandResult, Connection, Session};
use crate::client::Contexts;
use crate::ui::Ui;

/// A shell does not wait longer than this for names.
const PATIENCE: Duration = Duration::from_millis(700);

/// Print a script that makes a shell complete skep's commands
///
/// For bash: source <(skep completion bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete in
    #[arg(value_name = "SHELL", value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

/// Prints the script.
pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).ok_or_else(|| {
        CommandError::usage(Error::invalid(
            "SHELL",
            format!("{} is unknown", args.shell),
        ))
    })?;
    let mut script = Vec::new();
    shell.write_registration("COMPLETE", "skep", "skep", "skep", &mut script)?;
    ui.bytes(&script)?;
    Ok(())
}

/// Names of services.
pub fn services() -> Vec<CompletionCandidate> {
    candidates(Kind::Service)
}

/// Hostnames of nodes.
pub fn nodes() -> Vec<CompletionCandidate> {
    candidates(Kind::Node)
}

/// Ids of tasks.
pub fn tasks() -> Vec<CompletionCandidate> {
    candidates(Kind::Task)
}

/// Names of contexts.
pub fn contexts() -> Vec<CompletionCandidate> {
    Contexts::of_user()
        .and_then(|c| c.names())
        .unwrap_or_default()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// A shell that asks is not told of errors: it gets no names then.
fn candidates(kind: Kind) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return Vec::new();
    };
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, names(kind)).await });
    runtime.shutdown_background();
    names
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

async fn names(kind: Kind) -> Result<Vec<String>> {
    let session = Session::new(Connection {
        timeout: i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX),
        ..Connection::default()
    });
    let client = session.client().await?;
    Ok(match kind {
        Kind::Node => {
            let nodes = client.nodes(Vec::new()).await?;
            nodes.iter().map(|n| n.hostname().to_owned()).collect()
        }
        Kind::Service => {
            let services = client.services(Vec::new()).await?;
            services.iter().map(|s| s.name().to_owned()).collect()
        }
        _ => {
            let tasks = client.tasks(Vec::new()).await?;
            tasks.iter().map(|t| t.id().to_owned()).collect()
        }
    })
}

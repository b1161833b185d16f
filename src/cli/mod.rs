//! The command line: a file per verb, each with its arguments and what it does.
//! A doc comment on an argument is its help.
//!
//! Invariant: decides nothing about the swarm; it asks a manager, and renders.

mod completion;
mod context;
mod converge;
mod drill;
mod error;
mod events;
mod explain;
mod info;
mod inspect;
mod node;
mod parse;
mod rows;
mod service;
mod session;
mod swarm;
mod task;
mod version;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use skep_proto::Error;
use tokio::runtime::Builder;

pub use error::{CommandError, CommandResult, Exit};
pub use session::{Connection, Session};

use crate::ui::{Color, Ui};

/// Printed below the general help.
const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  refused, invalid, not found, or no manager could be reached
  2  the command line is not understood
  3  accepted, but some tasks have no node to run on (skep explain says why)
  4  accepted, but not all tasks run: in time, or because the update paused

Docker Swarm's verbs, flags and columns hold; `skep COMMAND --help` tells more.";

/// A Swarm-style cluster manager
///
/// Runs a command against this host's daemon, or with --host or --context
/// against a swarm elsewhere.
#[derive(Debug, Parser)]
#[command(
    name = "skep",
    version,
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    connection: Connection,
    /// When to colour what goes to stderr
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, join, leave and configure a swarm
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// Look after the hosts of the swarm
    #[command(subcommand)]
    Node(node::Command),
    /// Run and change services
    #[command(subcommand)]
    Service(service::Command),
    /// Look at single tasks
    #[command(subcommand)]
    Task(task::Command),
    /// Keep certificates for swarms elsewhere
    #[command(subcommand)]
    Context(context::Command),
    Info(info::Args),
    Version(version::Args),
    Events(events::Args),
    Explain(explain::Args),
    /// Try out what the swarm is for
    #[command(subcommand)]
    Drill(drill::Command),
    Daemon(crate::daemon::Args),
    Completion(completion::Args),
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // What clap cannot print, nobody can read.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(Exit::Usage as u8)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let mut ui = Ui::standard(cli.color);
    let mut threads = match cli.command {
        Command::Daemon(_) | Command::Drill(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let result = block_on(&mut threads, run(cli, &mut ui));
    let result = result.and_then(|()| Ok(ui.flush()?));
    ExitCode::from(conclude(&mut ui, result) as u8)
}

/// Says what is left to say.
fn conclude(ui: &mut Ui, result: CommandResult) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        Err(CommandError { exit, error }) => {
            if let Some(error) = error {
                ui.error(&error);
            }
            let _ = ui.flush();
            exit
        }
    }
}

fn block_on(threads: &mut Builder, future: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = threads
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("cannot start: {e}")))?;
    let result = runtime.block_on(future);
    // Nothing of a finished command is worth waiting for.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli, ui: &mut Ui) -> CommandResult {
    let session = Session::new(cli.connection);
    match cli.command {
        Command::Swarm(command) => swarm::run(command, ui, &session).await,
        Command::Node(command) => node::run(command, ui, &session).await,
        Command::Service(command) => service::run(command, ui, &session).await,
        Command::Task(command) => task::run(command, ui, &session).await,
        Command::Context(command) => context::run(command, ui, &session).await,
        Command::Info(args) => info::run(args, ui, &session).await,
        Command::Version(args) => version::run(args, ui, &session).await,
        Command::Events(args) => events::run(args, ui, &session).await,
        Command::Explain(args) => explain::run(args, ui, &session).await,
        Command::Drill(command) => drill::run(command, ui, &session).await,
        Command::Daemon(args) => Ok(crate::daemon::run(args).await?),
        Command::Completion(args) => completion::run(&args, ui),
    }
}

#[cfg(test)]
mod tests;

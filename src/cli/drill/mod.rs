//! `skep drill`

mod failover;

use super::{CommandResult, Session};
use crate::ui::Ui;

/// A drill.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Failover(failover::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Failover(args) => failover::run(args, ui, session).await,
    }
}

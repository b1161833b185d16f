//! `skep task …`

mod inspect;
mod ls;

use super::{CommandResult, Session};
use crate::ui::Ui;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Ls(ls::Args),
    Inspect(inspect::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Ls(args) => ls::run(args, ui, session).await,
        Command::Inspect(args) => inspect::run(args, ui, session).await,
    }
}

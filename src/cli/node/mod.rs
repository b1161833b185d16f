//! `skep node …`

mod demote;
mod inspect;
mod ls;
mod pretty;
mod promote;
mod ps;
mod rm;
mod update;

use super::{CommandResult, Session};
use crate::ui::Ui;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Ls(ls::Args),
    Inspect(inspect::Args),
    Ps(ps::Args),
    Update(update::Args),
    Promote(promote::Args),
    Demote(demote::Args),
    Rm(rm::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Ls(args) => ls::run(args, ui, session).await,
        Command::Inspect(args) => inspect::run(args, ui, session).await,
        Command::Ps(args) => ps::run(args, ui, session).await,
        Command::Update(args) => update::run(args, ui, session).await,
        Command::Promote(args) => promote::run(args, ui, session).await,
        Command::Demote(args) => demote::run(args, ui, session).await,
        Command::Rm(args) => rm::run(args, ui, session).await,
    }
}

//! `skep service …`

mod create;
mod flags;
mod inspect;
mod logs;
mod ls;
mod pretty;
mod ps;
mod registry;
mod rm;
mod rollback;
mod scale;
mod update;

use super::{CommandResult, Session};
use crate::ui::Ui;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(Box<create::Args>),
    Ls(ls::Args),
    Ps(ps::Args),
    Inspect(inspect::Args),
    Update(Box<update::Args>),
    Scale(scale::Args),
    Logs(logs::Args),
    Rm(rm::Args),
    Rollback(rollback::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Create(args) => create::run(*args, ui, session).await,
        Command::Ls(args) => ls::run(args, ui, session).await,
        Command::Ps(args) => ps::run(args, ui, session).await,
        Command::Inspect(args) => inspect::run(args, ui, session).await,
        Command::Update(args) => update::run(*args, ui, session).await,
        Command::Scale(args) => scale::run(args, ui, session).await,
        Command::Logs(args) => logs::run(args, ui, session).await,
        Command::Rm(args) => rm::run(args, ui, session).await,
        Command::Rollback(args) => rollback::run(args, ui, session).await,
    }
}

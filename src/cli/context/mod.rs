//! `skep context …`

mod create;
mod export;
mod import;
mod ls;
mod rm;
mod select;

use super::{CommandResult, Session};
use crate::ui::Ui;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(create::Args),
    Ls(ls::Args),
    Use(select::Args),
    Rm(rm::Args),
    Export(export::Args),
    Import(import::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Create(args) => create::run(args, ui, session).await,
        Command::Ls(args) => ls::run(&args, ui),
        Command::Use(args) => select::run(&args, ui),
        Command::Rm(args) => rm::run(&args, ui),
        Command::Export(args) => export::run(&args, ui),
        Command::Import(args) => import::run(&args, ui),
    }
}

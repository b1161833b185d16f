//! `skep swarm …`

mod ca;
mod init;
mod inspect;
mod join;
mod join_token;
mod leave;
mod update;

use super::{CommandResult, Session};
use crate::ui::Ui;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Init(init::Args),
    Join(join::Args),
    Leave(leave::Args),
    JoinToken(join_token::Args),
    Ca(ca::Args),
    Update(update::Args),
    Inspect(inspect::Args),
}

pub async fn run(command: Command, ui: &mut Ui, session: &Session) -> CommandResult {
    match command {
        Command::Init(args) => init::run(args, ui, session).await,
        Command::Join(args) => join::run(args, ui, session).await,
        Command::Leave(args) => leave::run(args, ui, session).await,
        Command::JoinToken(args) => join_token::run(args, ui, session).await,
        Command::Ca(args) => ca::run(args, ui, session).await,
        Command::Update(args) => update::run(args, ui, session).await,
        Command::Inspect(args) => inspect::run(args, ui, session).await,
    }
}

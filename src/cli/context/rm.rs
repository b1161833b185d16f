//! `skep context rm`

use clap_complete::ArgValueCandidates;

use crate::cli::{CommandError, CommandResult, Exit, completion};
use crate::client::Contexts;
use crate::ui::Ui;

/// Forget contexts; their certificates stay valid until they expire
#[derive(Debug, clap::Args)]
#[command(visible_alias = "remove")]
pub struct Args {
    /// Forget it even if it is in use
    #[arg(long, short)]
    force: bool,
    /// Name of a context
    #[arg(value_name = "NAME", required = true,
          add = ArgValueCandidates::new(completion::contexts))]
    names: Vec<String>,
}

pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    let contexts = Contexts::of_user()?;
    let mut failed = false;
    for name in &args.names {
        match contexts.remove(name, args.force) {
            Ok(()) => ui.line(name)?,
            Err(error) => {
                failed = true;
                ui.error(&error);
            }
        }
    }
    if failed {
        return Err(CommandError::said(Exit::Failed));
    }
    Ok(())
}

//! `skep context use`

use clap_complete::ArgValueCandidates;

use crate::cli::{CommandResult, completion};
use crate::client::Contexts;
use crate::ui::Ui;

/// Choose the swarm that commands speak to from now on
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a context; default is this host's own daemon
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::contexts))]
    name: String,
}

pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    Contexts::of_user()?.choose(&args.name)?;
    ui.line(&args.name)?;
    ui.status(&format!("Current context is now \"{}\".", args.name));
    for name in ["SKEP_SOCKET", "SKEP_HOST", "SKEP_CONTEXT"] {
        if std::env::var_os(name).is_some_and(|v| !v.is_empty()) {
            ui.warning(&format!("{name} is set and wins over the current context"));
        }
    }
    Ok(())
}

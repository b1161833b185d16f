//! `skep context export`

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use skep_proto::Error;

use crate::cli::{CommandResult, completion};
use crate::client::{Contexts, write_private};
use crate::ui::Ui;

/// Write a context to a file that another host can import
///
/// The file holds a private key: whoever has it operates the swarm.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a context
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::contexts))]
    name: String,
    /// File to make, - for stdout [default: NAME.skep]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    let bundle = Contexts::of_user()?.load(&args.name)?;
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| format!("{}.skep", args.name).into());
    if path.as_os_str() == "-" {
        if ui.is_out_terminal() {
            return Err(
                Error::invalid("FILE", "a private key is not shown on a terminal")
                    .hint("name a file, or redirect stdout")
                    .into(),
            );
        }
        ui.line(&serde_json::to_string_pretty(&bundle).map_err(|e| {
            Error::internal(format!("the context cannot be written as JSON: {e}"))
        })?)?;
        return Ok(());
    }
    write_private(&path, &bundle)?;
    ui.status(&format!("Written file \"{}\".", path.display()));
    Ok(())
}

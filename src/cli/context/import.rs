//! `skep context import`

use std::io::Read;
use std::path::{Path, PathBuf};

use skep_proto::{Error, Result};

use crate::cli::CommandResult;
use crate::client::{Contexts, parse_bundle};
use crate::ui::Ui;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Keep a context that was exported elsewhere
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name to keep it under
    #[arg(value_name = "NAME")]
    name: String,
    /// File to read, - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    let text = read(&args.file)
        .map_err(|e| Error::invalid("FILE", format!("{}: {e}", args.file.display())))?;
    let mut bundle = parse_bundle(&text, &args.file.display().to_string())?;
    bundle.name = args.name.clone();
    check(&bundle.cert_pem, &bundle.key_pem, &bundle.root_pem)?;
    Contexts::of_user()?.save(&bundle)?;
    ui.line(&args.name)?;
    ui.status(&format!(
        "Successfully imported context \"{name}\"; skep context use {name} makes it current.",
        name = args.name
    ));
    Ok(())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Certificate, key and root must fit before they are kept.
fn check(cert: &str, key: &str, root: &str) -> Result<()> {
    skep_proto::transport::Credentials::from_pem(cert.as_bytes(), key.as_bytes(), root.as_bytes())
        .map(|_| ())
        .map_err(|e| {
            Error::invalid("context", e.to_string())
                .hint("export it again where it was made: skep context export NAME")
        })
}

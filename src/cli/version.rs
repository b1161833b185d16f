//! `skep version`

use serde::Serialize;

use super::{CommandResult, Session, inspect};
use crate::ui::Ui;

/// Show the versions of this command and of the daemon
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: inspect::Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    client: Side,
    server: Option<Side>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Side {
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_version: Option<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let server = async { session.client().await?.info().await }.await;
    let versions = Versions {
        client: Side {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine_version: None,
        },
        server: server.as_ref().ok().map(|info| Side {
            version: info.version.clone(),
            engine_version: info
                .description
                .as_ref()
                .and_then(|d| d.engine.as_ref())
                .map(|e| e.version.clone()),
        }),
    };
    match args.format.format.as_deref() {
        Some(format) if !format.trim().is_empty() => {
            inspect::print(ui, Some(format), &[versions])?;
        }
        _ => ui.data(&text(&versions))?,
    }
    server.map(|_| ()).map_err(Into::into)
}

fn text(versions: &Versions) -> String {
    let mut text = format!("Client:\n Version:           {}\n", versions.client.version);
    if let Some(server) = &versions.server {
        text.push_str(&format!(
            "\nServer:\n Version:           {}\n",
            server.version
        ));
        if let Some(engine) = &server.engine_version {
            text.push_str(&format!(" Docker Engine:     {engine}\n"));
        }
    }
    text
}

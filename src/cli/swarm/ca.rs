//! `skep swarm ca`

use skep_proto::Error;

use crate::cli::{CommandResult, Session};
use crate::ui::Ui;

/// Print the swarm's root certificate
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(_: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let cluster = session.client().await?.cluster().await?;
    let root = cluster
        .root_ca
        .filter(|root| !root.cert_pem.is_empty())
        .ok_or_else(|| Error::internal("the manager sent no root certificate"))?;
    ui.bytes(&root.cert_pem)?;
    if !root.cert_pem.ends_with(b"\n") {
        ui.bytes(b"\n")?;
    }
    Ok(())
}

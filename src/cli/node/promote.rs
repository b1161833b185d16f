//! `skep node promote`

use clap_complete::ArgValueCandidates;
use skep_proto::v1::Role;

use super::update::change;
use crate::cli::{CommandError, CommandResult, Exit, Session, completion};
use crate::ui::Ui;

/// Make nodes managers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id, hostname, unique prefix, or self
    #[arg(value_name = "NODE", required = true, add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut failed = false;
    for reference in &args.nodes {
        let node = client.node(reference).await?;
        if node
            .spec
            .as_ref()
            .is_some_and(|s| s.role() == Role::Manager)
        {
            ui.line(&format!("Node {reference} is already a manager."))?;
            continue;
        }
        let changed = change(&client, reference, |spec| {
            spec.set_role(Role::Manager);
            Ok(())
        });
        match changed.await {
            Ok(warnings) => {
                for warning in &warnings {
                    ui.warning(warning);
                }
                ui.line(&format!(
                    "Node {reference} promoted to a manager in the swarm."
                ))?;
            }
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

//! `skep node rm`

use clap_complete::ArgValueCandidates;
use skep_proto::v1::RemoveNode;
use skep_proto::v1::write_request::Verb;

use crate::cli::{CommandError, CommandResult, Exit, Session, completion};
use crate::ui::Ui;

/// Remove nodes from the swarm
#[derive(Debug, clap::Args)]
#[command(visible_alias = "remove")]
pub struct Args {
    /// Remove it even if it is not down
    #[arg(long, short)]
    force: bool,
    /// Id, hostname or unique prefix
    #[arg(value_name = "NODE", required = true, add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut failed = false;
    for node in &args.nodes {
        let verb = Verb::RemoveNode(RemoveNode {
            node: node.clone(),
            force: args.force,
        });
        match client.write(verb).await {
            Ok(_) => ui.line(node)?,
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

//! `skep swarm leave`

use skep_proto::v1::LeaveRequest;

use crate::cli::{CommandResult, Session};
use crate::ui::Ui;

/// Take this host out of its swarm
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave even as a manager, or where the swarm cannot be told
    #[arg(long, short)]
    force: bool,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut local = client.local("swarm leave")?;
    client
        .bounded(local.leave(LeaveRequest { force: args.force }))
        .await?;
    ui.line("Node left the swarm.")?;
    Ok(())
}

//! `skep swarm inspect`

use crate::cli::inspect::{Format, print};
use crate::cli::{CommandResult, Session};
use crate::shape;
use crate::ui::Ui;

/// Show the swarm's settings and tokens
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: Format,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let cluster = session.client().await?.cluster().await?;
    let shape = shape::Cluster::from(&cluster);
    print(ui, args.format.format.as_deref(), &[shape])
}

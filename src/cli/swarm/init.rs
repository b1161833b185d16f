//! `skep swarm init`

use skep_proto::names::Words;
use skep_proto::v1::{Availability, ClusterSpec, InitRequest};

use super::update::Settings;
use crate::cli::{CommandResult, Session};
use crate::ui::Ui;

/// Make a swarm of this host
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address, interface or name that others reach this node by, port optional
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        default_value = "",
        hide_default_value = true
    )]
    advertise_addr: String,
    /// Where to listen for the swarm [default: 0.0.0.0:2377]
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        default_value = "",
        hide_default_value = true
    )]
    listen_addr: String,
    /// Whether this node takes tasks: active, pause or drain
    #[arg(long, value_name = "WORD", default_value = "active", value_parser = availability)]
    availability: Availability,
    /// Make a new swarm from this manager's disk alone, when the others are lost
    #[arg(long)]
    force_new_cluster: bool,
    #[command(flatten)]
    settings: Settings,
}

/// `active`, `pause` or `drain`.
pub fn availability(word: &str) -> Result<Availability, String> {
    Availability::from_word(word)
        .ok_or_else(|| format!("expected one of {}", Availability::all_words()))
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut spec = ClusterSpec::default();
    args.settings.apply(&mut spec);
    let mut local = client.local("swarm init")?;
    let made = client
        .bounded(local.init(InitRequest {
            listen_addr: args.listen_addr,
            advertise_addr: args.advertise_addr,
            force_new_cluster: args.force_new_cluster,
            spec: (!args.settings.is_empty()).then_some(spec),
            availability: args.availability.into(),
        }))
        .await?;
    ui.data(&format!(
        "Swarm initialized: current node ({}) is now a manager.\n\n\
         To add a worker to this swarm, run the following command:\n\n    \
         skep swarm join --token {} {}\n\n\
         To add a manager to this swarm, run 'skep swarm join-token manager' \
         and follow the instructions.\n",
        made.node_id, made.worker_token, made.addr
    ))?;
    Ok(())
}

//! `skep swarm join`

use std::path::PathBuf;

use skep_proto::Error;
use skep_proto::v1::{Availability, JoinRequest, Role};

use super::init::availability;
use crate::cli::{CommandError, CommandResult, Session};
use crate::client::with_port;
use crate::ui::Ui;

/// Make this host a node of a swarm
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Token that lets a node in, as `skep swarm join-token` shows it
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address, interface or name that others reach this node by, port optional
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        default_value = "",
        hide_default_value = true
    )]
    advertise_addr: String,
    /// Where to listen if it is, or becomes, a manager [default: 0.0.0.0:2377]
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
    /// A manager of the swarm; more of them are tried in turn
    #[arg(value_name = "HOST[:PORT]", required = true)]
    managers: Vec<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let token = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map_err(|e| Error::invalid("--token-file", format!("{}: {e}", path.display())))?
            .trim()
            .to_owned(),
        (None, None) => {
            return Err(CommandError::usage(
                Error::invalid("--token", "a token is needed to join")
                    .hint("skep swarm join-token worker, on a manager, shows it"),
            ));
        }
    };
    let client = session.client().await?;
    let mut local = client.local("swarm join")?;
    let joined = client
        .bounded(local.join(JoinRequest {
            listen_addr: args.listen_addr,
            advertise_addr: args.advertise_addr,
            remote_addrs: args.managers.iter().map(|m| with_port(m)).collect(),
            token,
            availability: args.availability.into(),
        }))
        .await?;
    let role = match joined.role() {
        Role::Manager => "manager",
        Role::Worker => "worker",
    };
    ui.line(&format!("This node joined a swarm as a {role}."))?;
    Ok(())
}

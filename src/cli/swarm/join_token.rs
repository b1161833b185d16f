//! `skep swarm join-token`

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{Cluster, Node, Reachability, Role, UpdateCluster};
use skep_proto::{Error, Result};

use crate::cli::{CommandResult, Session};
use crate::ui::Ui;

/// Show, or change, what lets a host in
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As what it joins: worker or manager
    #[arg(value_name = "ROLE", value_parser = role)]
    role: Role,
    /// Make a new token; the old one lets nobody in any more
    #[arg(long)]
    rotate: bool,
    /// Print the token only
    #[arg(long, short)]
    quiet: bool,
}

fn role(word: &str) -> std::result::Result<Role, String> {
    Role::from_word(word).ok_or_else(|| format!("expected one of {}", Role::all_words()))
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut cluster = client.cluster().await?;
    if args.rotate {
        client
            .write(Verb::UpdateCluster(UpdateCluster {
                version: cluster.meta().version,
                spec: None,
                rotate_worker_token: args.role == Role::Worker,
                rotate_manager_token: args.role == Role::Manager,
                ..UpdateCluster::default()
            }))
            .await?;
        cluster = client.cluster().await?;
    }
    let token = token(&cluster, args.role)?;
    if args.quiet {
        ui.line(&token)?;
        return Ok(());
    }
    if args.rotate {
        ui.data(&format!(
            "Successfully rotated {} join token.\n\n",
            args.role.word()
        ))?;
    }
    let addr = manager_addr(&client.nodes(Vec::new()).await?).unwrap_or("MANAGER:2377".into());
    ui.data(&format!(
        "To add a {} to this swarm, run the following command:\n\n    \
         skep swarm join --token {token} {addr}\n\n",
        args.role.word()
    ))?;
    Ok(())
}

fn token(cluster: &Cluster, role: Role) -> Result<String> {
    let tokens = cluster.join_tokens.clone().unwrap_or_default();
    let token = match role {
        Role::Worker => tokens.worker,
        Role::Manager => tokens.manager,
    };
    if token.is_empty() {
        return Err(Error::permission("the manager shows no join tokens to you"));
    }
    Ok(token)
}

/// The leader's address, else any manager's that can be reached.
fn manager_addr(nodes: &[Node]) -> Option<String> {
    let managers = || nodes.iter().filter_map(|n| n.manager.as_ref());
    managers()
        .find(|m| m.leader)
        .or_else(|| managers().find(|m| m.reachability() == Reachability::Reachable))
        .or_else(|| managers().next())
        .map(|m| m.addr.clone())
}

//! `skep swarm ca`

use std::time::Duration;

use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{Cluster, Node, NodeState, RootCa, RotateRootCa};
use skep_proto::{Code, Error, Result};
use tokio::time::Instant;

use crate::cli::{CommandError, CommandResult, Exit, Session, parse};
use crate::client::Client;
use crate::ui::{Progress, Ui};

/// Time between two looks at how far an exchange is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Print the swarm's root certificate, or exchange it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make a new root certificate and a new certificate for every node
    #[arg(long)]
    rotate: bool,
    /// Return at once, do not wait until every node has its new certificate
    #[arg(long, short, requires = "rotate")]
    detach: bool,
    /// Wait without showing how it comes along
    #[arg(long, short)]
    quiet: bool,
    /// Give up waiting after this long; 0 waits for ever
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse::duration)]
    converge_timeout: i64,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    if args.rotate {
        client
            .write(Verb::RotateRootCa(RotateRootCa::default()))
            .await?;
        if args.detach {
            return Ok(());
        }
        let mut progress = ui.progress(args.quiet);
        let exchanged = exchanged(&mut progress, &client, args.converge_timeout).await;
        progress.end();
        exchanged?;
    }
    let cluster = client.cluster().await?;
    let pem = root(&cluster)?;
    ui.bytes(pem)?;
    if !pem.ends_with(b"\n") {
        ui.bytes(b"\n")?;
    }
    Ok(())
}

fn root(cluster: &Cluster) -> Result<&[u8]> {
    cluster
        .root_ca
        .as_ref()
        .map(|root| root.cert_pem.as_slice())
        .filter(|pem| !pem.is_empty())
        .ok_or_else(|| Error::internal("the manager sent no root certificate"))
}

/// Until no node needs the old root any more.
async fn exchanged(progress: &mut Progress<'_>, client: &Client, timeout_ns: i64) -> CommandResult {
    let started = Instant::now();
    let patience = Duration::from_nanos(u64::try_from(timeout_ns).unwrap_or(0));
    loop {
        let (cluster, nodes) = tokio::try_join!(client.cluster(), client.nodes(Vec::new()))?;
        let root = cluster.root_ca.unwrap_or_default();
        let waiting = waiting(&root, &nodes);
        progress.overall(&format!(
            "rotated TLS certificates: {} out of {} nodes",
            nodes.len() - waiting.len(),
            nodes.len()
        ));
        if root.previous_pem.is_empty() {
            return Ok(());
        }
        if !patience.is_zero() && started.elapsed() >= patience {
            return Err(CommandError::new(
                Exit::NotConverged,
                still_waiting(&waiting),
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => {
                progress.footer("Operation continuing in background.");
                return Err(CommandError::said(Exit::NotConverged));
            }
        }
    }
}

/// Nodes that have yet to get a certificate of the new root.
fn waiting<'a>(root: &RootCa, nodes: &'a [Node]) -> Vec<&'a Node> {
    let trust = root.trust_digest();
    nodes.iter().filter(|n| n.cert_trust != trust).collect()
}

fn still_waiting(nodes: &[&Node]) -> Error {
    let names: Vec<&str> = nodes
        .iter()
        .map(|n| {
            if n.hostname().is_empty() {
                n.id()
            } else {
                n.hostname()
            }
        })
        .collect();
    let down = nodes.iter().any(|n| n.state() != NodeState::Ready);
    Error::new(
        Code::Timeout,
        format!("not yet exchanged on {}", names.join(", ")),
    )
    .hint(if down {
        "a node that is down renews when it is back; one that is gone is removed by skep node rm"
    } else {
        "it goes on in the background: skep swarm inspect shows RootRotationInProgress"
    })
}

//! `skep info`

use std::fmt::Write;

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{Cluster, InfoResponse, Node, Reachability, SwarmState};

use super::rows::capitalized;
use super::{CommandResult, Session, inspect};
use crate::client::Client;
use crate::ui::{Ui, human};

/// Show what this host is in its swarm, or how a swarm elsewhere is
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: inspect::Format,
}

/// As Docker's `info` has it, as far as it concerns a swarm.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    name: String,
    server_version: String,
    engine_version: String,
    #[serde(rename = "NCPU")]
    cpus: i64,
    mem_total: i64,
    data_dir: String,
    swarm: Swarm,
    #[serde(skip_serializing_if = "String::is_empty")]
    engine_error: String,
    warnings: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Swarm {
    #[serde(rename = "NodeID")]
    node_id: String,
    node_addr: String,
    local_node_state: &'static str,
    control_available: bool,
    leader: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(rename = "ClusterID")]
    cluster_id: String,
    remote_managers: Vec<Peer>,
    nodes: u64,
    managers: u64,
    services: u64,
    tasks: u64,
    term: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_not_after: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Peer {
    #[serde(rename = "NodeID")]
    node_id: String,
    addr: String,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    if !client.is_local() {
        return elsewhere(&client, args, ui).await;
    }
    let info = of(client.info().await?);
    for warning in &info.warnings {
        ui.warning(warning);
    }
    if !info.engine_error.is_empty() {
        ui.warning(&format!(
            "the Docker Engine cannot be used: {}",
            info.engine_error
        ));
    }
    match args.format.format.as_deref() {
        Some(format) if !format.trim().is_empty() => inspect::print(ui, Some(format), &[info]),
        _ => {
            ui.data(&text(&info))?;
            Ok(())
        }
    }
}

fn of(info: InfoResponse) -> Info {
    let local_node_state = state(info.state());
    let description = info.description.unwrap_or_default();
    let resources = description.resources.unwrap_or_default();
    Info {
        name: info.hostname,
        server_version: info.version,
        engine_version: description.engine.unwrap_or_default().version,
        cpus: resources.nano_cpus / 1_000_000_000,
        mem_total: resources.memory_bytes,
        data_dir: info.data_dir,
        swarm: Swarm {
            node_id: info.node_id,
            node_addr: info.node_addr,
            local_node_state,
            control_available: info.manager,
            leader: info.leader,
            error: info.error,
            cluster_id: info.cluster_id,
            remote_managers: info
                .managers
                .into_iter()
                .map(|m| Peer {
                    node_id: m.node_id,
                    addr: m.addr,
                })
                .collect(),
            nodes: info.nodes,
            managers: info.manager_count,
            services: info.services,
            tasks: info.tasks_here,
            term: info.term,
            certificate_not_after: (info.cert_not_after_ns != 0)
                .then(|| human::rfc3339(info.cert_not_after_ns)),
        },
        engine_error: info.engine_error,
        warnings: info.warnings,
    }
}

fn state(state: SwarmState) -> &'static str {
    match state {
        SwarmState::Inactive => "inactive",
        SwarmState::Pending => "pending",
        SwarmState::Active => "active",
        SwarmState::Error => "error",
    }
}

fn text(info: &Info) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, info);
    text
}

fn write(text: &mut String, info: &Info) -> std::fmt::Result {
    let swarm = &info.swarm;
    writeln!(text, "Name: {}", info.name)?;
    writeln!(text, "Skep Version: {}", info.server_version)?;
    writeln!(text, "Docker Engine: {}", info.engine_version)?;
    writeln!(text, "CPUs: {}", info.cpus)?;
    writeln!(text, "Total Memory: {}", human::bytes(info.mem_total))?;
    writeln!(text, "Data Directory: {}", info.data_dir)?;
    writeln!(text, "Swarm: {}", swarm.local_node_state)?;
    if !swarm.error.is_empty() {
        writeln!(text, " Error: {}", swarm.error)?;
    }
    if swarm.node_id.is_empty() {
        return Ok(());
    }
    writeln!(text, " NodeID: {}", swarm.node_id)?;
    writeln!(text, " Is Manager: {}", swarm.control_available)?;
    if swarm.control_available {
        writeln!(text, " Is Leader: {}", swarm.leader)?;
        writeln!(text, " Raft Term: {}", swarm.term)?;
        writeln!(text, " ClusterID: {}", swarm.cluster_id)?;
        writeln!(text, " Managers: {}", swarm.managers)?;
        writeln!(text, " Nodes: {}", swarm.nodes)?;
        writeln!(text, " Services: {}", swarm.services)?;
    }
    writeln!(text, " Tasks Here: {}", swarm.tasks)?;
    if let Some(end) = &swarm.certificate_not_after {
        writeln!(text, " Certificate Expires: {end}")?;
    }
    writeln!(text, " Node Address: {}", swarm.node_addr)?;
    if !swarm.remote_managers.is_empty() {
        writeln!(text, " Manager Addresses:")?;
        let mut addrs: Vec<&str> = swarm
            .remote_managers
            .iter()
            .map(|m| m.addr.as_str())
            .collect();
        addrs.sort_unstable();
        for addr in addrs {
            writeln!(text, "  {addr}")?;
        }
    }
    Ok(())
}

/// A swarm elsewhere, through whichever manager answers.
async fn elsewhere(client: &Client, args: Args, ui: &mut Ui) -> CommandResult {
    let (cluster, nodes, services, tasks) = tokio::try_join!(
        client.cluster(),
        client.nodes(Vec::new()),
        client.services(Vec::new()),
        client.tasks(Vec::new()),
    )?;
    let remote = Remote::of(&cluster, &nodes, services.len(), tasks.len());
    match args.format.format.as_deref() {
        Some(format) if !format.trim().is_empty() => inspect::print(ui, Some(format), &[remote]),
        _ => {
            ui.data(&remote.text())?;
            Ok(())
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Remote {
    #[serde(rename = "ClusterID")]
    cluster_id: String,
    leader: String,
    managers: usize,
    reachable_managers: usize,
    nodes: usize,
    ready_nodes: usize,
    services: usize,
    tasks: usize,
}

impl Remote {
    fn of(cluster: &Cluster, nodes: &[Node], services: usize, tasks: usize) -> Self {
        let managers = || {
            nodes
                .iter()
                .filter_map(|n| n.manager.as_ref().map(|m| (n, m)))
        };
        Self {
            cluster_id: cluster.id().to_owned(),
            leader: managers()
                .find(|(_, m)| m.leader)
                .map(|(n, _)| n.hostname().to_owned())
                .unwrap_or_default(),
            managers: managers().count(),
            reachable_managers: managers()
                .filter(|(_, m)| m.reachability() == Reachability::Reachable)
                .count(),
            nodes: nodes.len(),
            ready_nodes: nodes
                .iter()
                .filter(|n| n.state() == skep_proto::v1::NodeState::Ready)
                .count(),
            services,
            tasks,
        }
    }

    fn text(&self) -> String {
        format!(
            "Swarm: {}\n ClusterID: {}\n Leader: {}\n Managers: {} ({} reachable)\n \
             Nodes: {} ({} {})\n Services: {}\n Tasks: {}\n",
            "active",
            self.cluster_id,
            self.leader,
            self.managers,
            self.reachable_managers,
            self.nodes,
            self.ready_nodes,
            capitalized(skep_proto::v1::NodeState::Ready.word()).to_lowercase(),
            self.services,
            self.tasks
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::ManagerPeer;

    #[test]
    fn a_manager_says_more_than_a_host_without_a_swarm() {
        let alone = InfoResponse {
            version: "0.1.0".into(),
            hostname: "alpha".into(),
            data_dir: "/var/lib/skep".into(),
            ..InfoResponse::default()
        };
        insta::assert_snapshot!(text(&of(alone.clone())), @r#"
        Name: alpha
        Skep Version: 0.1.0
        Docker Engine: 
        CPUs: 0
        Total Memory: 0B
        Data Directory: /var/lib/skep
        Swarm: inactive
        "#);
        let manager = InfoResponse {
            state: SwarmState::Active.into(),
            node_id: "n1".into(),
            node_addr: "10.0.0.1".into(),
            manager: true,
            leader: true,
            cluster_id: "c1".into(),
            nodes: 3,
            manager_count: 3,
            term: 7,
            managers: vec![ManagerPeer {
                node_id: "n1".into(),
                addr: "10.0.0.1:2377".into(),
            }],
            ..alone
        };
        insta::assert_snapshot!(text(&of(manager)), @r#"
        Name: alpha
        Skep Version: 0.1.0
        Docker Engine: 
        CPUs: 0
        Total Memory: 0B
        Data Directory: /var/lib/skep
        Swarm: active
         NodeID: n1
         Is Manager: true
         Is Leader: true
         Raft Term: 7
         ClusterID: c1
         Managers: 3
         Nodes: 3
         Services: 0
         Tasks Here: 0
         Node Address: 10.0.0.1
         Manager Addresses:
          10.0.0.1:2377
        "#);
    }
}

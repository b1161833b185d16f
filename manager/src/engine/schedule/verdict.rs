//! Why a task is on no node: counts per reason, the nearest miss, a remedy.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use skep_proto::objects::Identified;
use skep_proto::v1::{Availability, Filter, Node, NodeState, Refusal, Verdict};

use super::filter::{Refused, Wants, bytes, cpus};
use crate::state::Nanos;

/// Refusals by what a reader takes for the same reason.
#[derive(Debug, Default)]
pub(super) struct Tally {
    nodes: u32,
    by_reason: BTreeMap<(FilterRank, String), Count>,
}

/// Filters in the order in which they are asked.
type FilterRank = i32;

#[derive(Debug)]
struct Count {
    filter: Filter,
    nodes: u32,
    /// The one that came closest.
    nearest: Refused,
    hostname: String,
    id: String,
}

impl Tally {
    pub fn add(&mut self, wants: &Wants, node: &Node, refused: Refused) {
        self.nodes += 1;
        let key = (refused.filter() as i32, group(wants, &refused));
        match self.by_reason.get_mut(&key) {
            Some(count) => {
                count.nodes += 1;
                if shortness(&refused) < shortness(&count.nearest) {
                    count.nearest = refused;
                    count.hostname = node.hostname().to_owned();
                    count.id = node.id().to_owned();
                }
            }
            None => {
                let count = Count {
                    filter: refused.filter(),
                    nodes: 1,
                    nearest: refused,
                    hostname: node.hostname().to_owned(),
                    id: node.id().to_owned(),
                };
                self.by_reason.insert(key, count);
            }
        }
    }

    /// The verdict on tasks of `wants`. `pinned`: each may be on one node only.
    pub fn verdict(self, wants: &Wants, now: Nanos, pinned: bool) -> Verdict {
        let mut refusals: Vec<Refusal> = self
            .by_reason
            .into_values()
            .map(|count| refusal(wants, count))
            .collect();
        refusals.sort_by_key(|r| Reverse(r.nodes));
        let lines: Vec<String> = refusals.iter().map(line).collect();
        let summary = match (lines.is_empty(), pinned) {
            (true, _) => "no suitable node: the swarm has none".to_owned(),
            (false, true) => lines.join("; "),
            (false, false) => format!("no suitable node: {}", lines.join("; ")),
        };
        Verdict {
            at_ns: now,
            nodes: self.nodes,
            refusals,
            summary,
        }
    }
}

/// Whether two verdicts tell the same, whenever they were given.
pub(super) fn same(a: Option<&Verdict>, b: &Verdict) -> bool {
    a.is_some_and(|a| a.nodes == b.nodes && a.refusals == b.refusals && a.summary == b.summary)
}

/// Nodes that miss different amounts are short of the same thing.
fn group(wants: &Wants, refused: &Refused) -> String {
    match refused {
        Refused::Resources { .. } => String::new(),
        other => wants.reason(other, false),
    }
}

/// How much is missing, where that can be said: smaller is nearer.
fn shortness(refused: &Refused) -> i128 {
    match refused {
        // A CPU weighs as much as 4 GiB: only to have an order.
        Refused::Resources {
            nano_cpus_short,
            memory_bytes_short,
        } => i128::from(*nano_cpus_short) * 4 + i128::from(*memory_bytes_short),
        _ => 0,
    }
}

fn refusal(wants: &Wants, count: Count) -> Refusal {
    let name = if count.hostname.is_empty() {
        count.id
    } else {
        count.hostname
    };
    let (nearest, missing) = match &count.nearest {
        Refused::Resources {
            nano_cpus_short,
            memory_bytes_short,
        } => {
            let mut short = Vec::new();
            if *memory_bytes_short > 0 {
                short.push(format!("{} memory", bytes(*memory_bytes_short)));
            }
            if *nano_cpus_short > 0 {
                short.push(format!("{} CPU", cpus(*nano_cpus_short)));
            }
            (name.clone(), format!("{} short", short.join(" and ")))
        }
        Refused::Constraint(_) | Refused::Platform | Refused::Plugin { .. } if count.nodes > 1 => {
            (String::new(), String::new())
        }
        _ => (name.clone(), String::new()),
    };
    Refusal {
        filter: count.filter.into(),
        nodes: count.nodes,
        reason: wants.reason(&count.nearest, count.nodes > 1),
        nearest,
        missing,
        remedy: remedy(wants, &count.nearest, &name),
    }
}

/// `2 nodes short of 512 MiB memory (nearest n2: 128 MiB memory short)`
fn line(refusal: &Refusal) -> String {
    let nodes = if refusal.nodes == 1 { "node" } else { "nodes" };
    let colon = if refusal.reason.starts_with("constraint") {
        ":"
    } else {
        ""
    };
    let mut line = format!("{} {nodes}{colon} {}", refusal.nodes, refusal.reason);
    if !refusal.missing.is_empty() {
        line.push_str(&format!(
            " (nearest {}: {})",
            refusal.nearest, refusal.missing
        ));
    }
    line
}

fn remedy(wants: &Wants, refused: &Refused, node: &str) -> String {
    let service = &wants.service_name;
    match refused {
        Refused::State(NodeState::Down) => {
            format!("start the skep daemon on {node}, or add a node: skep swarm join-token worker")
        }
        Refused::State(_) => format!("wait for {node} to be heard of: skep node ls"),
        Refused::Availability(Availability::Drain | Availability::Pause) => {
            format!("skep node update --availability active {node}")
        }
        Refused::Availability(_) => format!("skep node inspect {node}"),
        Refused::Constraint(i) => match wants.constraints.get(*i) {
            Some(Ok(constraint)) => match constraint.label_to_add() {
                Some(label) => format!("skep node update --label-add {label} NODE"),
                None => format!("skep service update --constraint-rm '{constraint}' {service}"),
            },
            _ => format!("skep service inspect {service}"),
        },
        Refused::Platform => "add a node of that platform: skep swarm join-token worker".to_owned(),
        Refused::Resources {
            nano_cpus_short,
            memory_bytes_short,
        } => {
            let flag = if memory_bytes_short > nano_cpus_short || *nano_cpus_short == 0 {
                "--reserve-memory"
            } else {
                "--reserve-cpu"
            };
            format!(
                "skep service update {flag} LESS {service}, or add a node: skep swarm join-token worker"
            )
        }
        Refused::HostPort(_) => {
            format!(
                "skep service scale {service}=FEWER, or add a node: skep swarm join-token worker"
            )
        }
        Refused::MaxReplicas => {
            format!("skep service update --replicas-max-per-node MORE {service}")
        }
        Refused::Plugin { kind, name } => format!("install the {kind} driver {name} on a node"),
    }
}

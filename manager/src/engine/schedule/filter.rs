//! Whether a node can take a task, and if not, what is in the way. The first
//! filter that refuses is the one that counts.

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Filter, Node, NodeState, Placement, Platform, PortConfig, PortMode, PortProtocol,
    Resources, Service, TaskSpec,
};

use super::constraint::{Constraint, normal_arch};
use super::usage::{HostPort, NodeUse, key};

/// What a task of one template asks of a node.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Wants {
    pub service_id: String,
    pub service_name: String,
    pub template: u64,
    /// `Err` holds one that cannot be read: no node meets it.
    pub constraints: Vec<Result<Constraint, String>>,
    pub platforms: Vec<Platform>,
    pub reserved: Resources,
    pub host_ports: Vec<PortConfig>,
    pub max_replicas: u64,
    pub log_driver: String,
}

/// Why one node cannot take the task. Equal ones are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum Refused {
    State(NodeState),
    Availability(Availability),
    Constraint(usize),
    Platform,
    /// CPU short, then memory short; at least one is above 0.
    Resources {
        nano_cpus_short: i64,
        memory_bytes_short: i64,
    },
    HostPort(HostPort),
    MaxReplicas,
    Plugin {
        kind: &'static str,
        name: String,
    },
}

impl Refused {
    pub fn filter(&self) -> Filter {
        match self {
            Self::State(_) => Filter::State,
            Self::Availability(_) => Filter::Availability,
            Self::Constraint(_) => Filter::Constraint,
            Self::Platform => Filter::Platform,
            Self::Resources { .. } => Filter::Resources,
            Self::HostPort(_) => Filter::HostPort,
            Self::MaxReplicas => Filter::MaxReplicas,
            Self::Plugin { .. } => Filter::Plugin,
        }
    }
}

/// The placement that a service has now: it acts on tasks of every template.
fn placement(service: &Service) -> Option<&Placement> {
    let task = service.spec.as_ref().and_then(|s| s.task.as_ref());
    task.and_then(|t| t.placement.as_ref())
}

impl Wants {
    /// What tasks of `template` ask for; of the newest one if it is not known.
    pub fn new(service: &Service, template: u64) -> Self {
        let task: Option<&TaskSpec> = service
            .template(template)
            .or_else(|| service.current_template())
            .and_then(|t| t.task.as_ref());
        let placement = placement(service);
        let log_driver = task.and_then(|t| t.log_driver.as_ref());
        Self {
            service_id: service.id().to_owned(),
            service_name: service.name().to_owned(),
            template,
            constraints: constraints(service),
            platforms: placement.map(|p| p.platforms.clone()).unwrap_or_default(),
            reserved: task.map(|t| *t.reserved()).unwrap_or_default(),
            host_ports: host_ports(service, template),
            max_replicas: placement.map_or(0, |p| p.max_replicas),
            log_driver: log_driver.map(|d| d.name.clone()).unwrap_or_default(),
        }
    }

    /// Whether `node` can take one more such task.
    pub fn fit(&self, node: &Node, used: &NodeUse) -> Result<(), Refused> {
        if node.state() != NodeState::Ready {
            return Err(Refused::State(node.state()));
        }
        if node.availability() != Availability::Active {
            return Err(Refused::Availability(node.availability()));
        }
        self.suits(node)?;
        let capacity = node.capacity();
        let short = |wanted: i64, used: i64, has: i64| {
            if wanted == 0 {
                0
            } else {
                (used.saturating_add(wanted)).saturating_sub(has).max(0)
            }
        };
        let nano_cpus_short = short(self.reserved.nano_cpus, used.nano_cpus, capacity.nano_cpus);
        let memory_bytes_short = short(
            self.reserved.memory_bytes,
            used.memory_bytes,
            capacity.memory_bytes,
        );
        if nano_cpus_short > 0 || memory_bytes_short > 0 {
            return Err(Refused::Resources {
                nano_cpus_short,
                memory_bytes_short,
            });
        }
        if let Some(port) = self
            .host_ports
            .iter()
            .map(key)
            .find(|p| used.ports.contains_key(p))
        {
            return Err(Refused::HostPort(port));
        }
        let here = used.live_of.get(&self.service_id).copied().unwrap_or(0);
        if self.max_replicas > 0 && u64::from(here) >= self.max_replicas {
            return Err(Refused::MaxReplicas);
        }
        self.plugins(node)
    }

    /// Whether `node` is of the kind that such tasks may be on, whoever else is
    /// there and whatever state it is in.
    pub fn suits(&self, node: &Node) -> Result<(), Refused> {
        for (i, constraint) in self.constraints.iter().enumerate() {
            if !constraint.as_ref().is_ok_and(|c| c.is_met_by(node)) {
                return Err(Refused::Constraint(i));
            }
        }
        if !self.platforms.is_empty() && !self.platforms.iter().any(|p| is_platform(node, p)) {
            return Err(Refused::Platform);
        }
        Ok(())
    }

    fn plugins(&self, node: &Node) -> Result<(), Refused> {
        let engine = node.description.as_ref().and_then(|d| d.engine.as_ref());
        let plugins = engine.map(|e| e.plugins.as_slice()).unwrap_or_default();
        let missing = |kind: &'static str, name: &str| {
            let mut of_kind = plugins.iter().filter(|p| p.r#type == kind).peekable();
            let lists_any = of_kind.peek().is_some();
            let with_tag = format!("{name}:latest");
            lists_any && !of_kind.any(|p| p.name == name || p.name == with_tag)
        };
        let log = self.log_driver.as_str();
        if !log.is_empty() && log != "none" && missing("Log", log) {
            return Err(Refused::Plugin {
                kind: "log",
                name: log.to_owned(),
            });
        }
        Ok(())
    }

    /// What is in the way, for one or `many` nodes, without names or amounts.
    pub fn reason(&self, refused: &Refused, many: bool) -> String {
        let pick = |one: &str, more: &str| {
            if many {
                more.to_owned()
            } else {
                one.to_owned()
            }
        };
        match refused {
            Refused::State(NodeState::Down) => "down".to_owned(),
            Refused::State(NodeState::Unknown) => "not heard of yet".to_owned(),
            Refused::State(state) => state.word().to_owned(),
            Refused::Availability(Availability::Drain) => "drained".to_owned(),
            Refused::Availability(Availability::Pause) => "paused".to_owned(),
            Refused::Availability(other) => other.word().to_owned(),
            Refused::Constraint(i) => match self.constraints.get(*i) {
                Some(Ok(constraint)) => format!("constraint {constraint} not met"),
                Some(Err(text)) => format!("constraint {text} cannot be read"),
                None => "constraint not met".to_owned(),
            },
            Refused::Platform => {
                let wanted: Vec<String> = self.platforms.iter().map(platform_name).collect();
                format!("not {}", wanted.join(" or "))
            }
            Refused::Resources {
                nano_cpus_short,
                memory_bytes_short,
            } => {
                let mut of = Vec::new();
                if *memory_bytes_short > 0 {
                    of.push(format!("{} memory", bytes(self.reserved.memory_bytes)));
                }
                if *nano_cpus_short > 0 {
                    of.push(format!("{} CPU", cpus(self.reserved.nano_cpus)));
                }
                format!("short of {}", of.join(" and "))
            }
            Refused::HostPort((protocol, port)) => format!(
                "with host port {port}/{} in use",
                PortProtocol::try_from(*protocol).map_or("tcp", Words::word)
            ),
            Refused::MaxReplicas => format!(
                "{} max replicas per node ({})",
                pick("has its", "have their"),
                self.max_replicas
            ),
            Refused::Plugin { kind, name } => format!("without {kind} driver {name}"),
        }
    }
}

/// Ports of the host that a task of this template needs for itself.
fn host_ports(service: &Service, template: u64) -> Vec<PortConfig> {
    let template = service
        .template(template)
        .or_else(|| service.current_template());
    let ports = template
        .and_then(|t| t.endpoint.as_ref())
        .map(|e| e.ports.as_slice());
    let own = |p: &&PortConfig| p.mode() == PortMode::Host && p.published_port != 0;
    ports
        .unwrap_or_default()
        .iter()
        .filter(own)
        .cloned()
        .collect()
}

/// The constraints of a service as they are now.
fn constraints(service: &Service) -> Vec<Result<Constraint, String>> {
    let texts = placement(service)
        .map(|p| p.constraints.as_slice())
        .unwrap_or_default();
    texts
        .iter()
        .map(|text| Constraint::parse(text).map_err(|_| text.clone()))
        .collect()
}

fn is_platform(node: &Node, wanted: &Platform) -> bool {
    let has = node.description.as_ref().and_then(|d| d.platform.as_ref());
    let (os, arch) = has.map_or(("", ""), |p| (p.os.as_str(), p.architecture.as_str()));
    (wanted.os.is_empty() || wanted.os.eq_ignore_ascii_case(os))
        && (wanted.architecture.is_empty()
            || normal_arch(&wanted.architecture) == normal_arch(arch))
}

fn platform_name(platform: &Platform) -> String {
    let any = |text: &str| {
        if text.is_empty() {
            "any".to_owned()
        } else {
            text.to_owned()
        }
    };
    format!(
        "{}/{}",
        any(&platform.os),
        any(&normal_arch(&platform.architecture))
    )
}

/// `512 MiB`, `1.5 GiB`.
pub(super) fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

/// `0.5`, `2`.
pub(super) fn cpus(nano_cpus: i64) -> String {
    let thousandths = nano_cpus / 1_000_000;
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_people_write_them() {
        assert_eq!(bytes(512 << 20), "512 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(100), "100 B");
        assert_eq!(cpus(500_000_000), "0.5");
        assert_eq!(cpus(2_000_000_000), "2");
    }
}

//! Placement constraints: `node.labels.zone==eu`, read once and asked of nodes.

use std::fmt;
use std::net::IpAddr;

use skep_proto::objects::Identified;
use skep_proto::v1::Node;
use skep_proto::{Error, Result};

/// What nodes can be asked for, as an error message lists it.
pub const KEYS: &str = "node.id, node.hostname, node.ip, node.role, node.platform.os, \
                        node.platform.arch, node.labels.NAME, engine.labels.NAME";

/// One condition that a node meets or does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: Key,
    /// As it was written, for messages.
    key_text: String,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Id,
    Hostname,
    Ip,
    Role,
    Os,
    Arch,
    NodeLabel(String),
    EngineLabel(String),
}

impl Constraint {
    /// Reads `KEY==VALUE` or `KEY!=VALUE`, with or without spaces around the
    /// parts. Keys are case-insensitive but for the names of labels.
    ///
    /// # Errors
    /// `CODE_INVALID` with what is wrong; the caller adds the field.
    pub fn parse(text: &str) -> Result<Self> {
        let (at, equal) = match (text.find("=="), text.find("!=")) {
            (Some(eq), Some(ne)) if eq < ne => (eq, true),
            (_, Some(ne)) => (ne, false),
            (Some(eq), None) => (eq, true),
            (None, None) => return Err(invalid("constraint expected one operator from ==, !=")),
        };
        let key_text = text.get(..at).unwrap_or_default().trim();
        let value = text.get(at + 2..).unwrap_or_default().trim();
        if !is_key(key_text) {
            return Err(invalid(format!("key '{key_text}' is invalid")));
        }
        if !is_value(value) {
            return Err(invalid(format!("value '{value}' is invalid")));
        }
        let key = Key::parse(key_text)
            .ok_or_else(|| invalid(format!("key '{key_text}' is not one that nodes have")))?;
        if key == Key::Ip && Network::parse(value).is_none() {
            return Err(invalid(format!(
                "value '{value}' is invalid: node.ip is compared with an IP address or a CIDR"
            )));
        }
        Ok(Self {
            key,
            key_text: key_text.to_owned(),
            equal,
            value: value.to_owned(),
        })
    }

    /// Whether `node` may have tasks with this constraint. A label that is not
    /// there reads as empty.
    pub fn is_met_by(&self, node: &Node) -> bool {
        let platform = || node.description.as_ref().and_then(|d| d.platform.as_ref());
        let same = |text: &str| text.eq_ignore_ascii_case(&self.value);
        let found = match &self.key {
            Key::Id => node.id() == self.value,
            Key::Hostname => same(node.hostname()),
            Key::Ip => self.holds_ip(node.status.as_ref().map_or("", |s| s.addr.as_str())),
            Key::Role => same(skep_proto::names::Words::word(node.role())),
            Key::Os => same(platform().map_or("", |p| p.os.as_str())),
            Key::Arch => {
                let arch = platform().map_or("", |p| p.architecture.as_str());
                normal_arch(arch) == normal_arch(&self.value)
            }
            Key::NodeLabel(name) => {
                let labels = node.spec.as_ref().map(|s| &s.labels);
                same(labels.and_then(|l| l.get(name)).map_or("", String::as_str))
            }
            Key::EngineLabel(name) => {
                let engine = node.description.as_ref().and_then(|d| d.engine.as_ref());
                let label = engine.and_then(|e| e.labels.get(name));
                same(label.map_or("", String::as_str))
            }
        };
        found == self.equal
    }

    /// The label of a node that would satisfy it, as `name=value`; `None` when
    /// no label of a node would.
    pub fn label_to_add(&self) -> Option<String> {
        match &self.key {
            Key::NodeLabel(name) if self.equal => Some(format!("{name}={}", self.value)),
            _ => None,
        }
    }

    fn holds_ip(&self, addr: &str) -> bool {
        let host = addr.parse::<std::net::SocketAddr>().map(|s| s.ip());
        let ip = host.or_else(|_| addr.parse::<IpAddr>());
        match (Network::parse(&self.value), ip) {
            (Some(network), Ok(ip)) => network.contains(ip),
            _ => false,
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.equal { "==" } else { "!=" };
        write!(f, "{}{operator}{}", self.key_text, self.value)
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let label = |scope: &str| {
            let name = lower.strip_prefix(scope).and(text.get(scope.len()..))?;
            (!name.is_empty()).then(|| name.to_owned())
        };
        Some(match lower.as_str() {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.ip" => Self::Ip,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            _ => match label("node.labels.") {
                Some(name) => Self::NodeLabel(name),
                None => Self::EngineLabel(label("engine.labels.")?),
            },
        })
    }
}

/// One name for each architecture: kernels and image makers disagree.
pub fn normal_arch(arch: &str) -> String {
    match arch.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" | "amd64" => "amd64".to_owned(),
        "aarch64" | "arm64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid("", message).hint(format!("write KEY==VALUE or KEY!=VALUE; keys are {KEYS}"))
}

fn is_key(text: &str) -> bool {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    text.len() >= 2 && text.starts_with(start) && text.chars().all(rest)
}

fn is_value(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_ .*()?+[]\\^$|/".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

/// An address and how many of its leading bits count.
struct Network {
    base: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base.parse().ok()?, bits.parse().ok()?),
            None => {
                let base: IpAddr = text.parse().ok()?;
                (base, if base.is_ipv4() { 32 } else { 128 })
            }
        };
        let most = if base.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { base, bits })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let (base, ip) = (self.base.to_canonical(), ip.to_canonical());
        let (a, b, width) = match (base, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let dropped = width - self.bits.min(width);
        a.checked_shr(dropped).unwrap_or(0) == b.checked_shr(dropped).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{
        EngineDescription, Meta, NodeDescription, NodeSpec, NodeStatus, Platform, Role,
    };

    fn node() -> Node {
        Node {
            meta: Some(Meta {
                id: "n1id".into(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                labels: [("zone".to_owned(), "EU".to_owned())].into(),
                ..NodeSpec::default()
            }),
            description: Some(NodeDescription {
                hostname: "Alpha".into(),
                platform: Some(Platform {
                    architecture: "x86_64".into(),
                    os: "linux".into(),
                }),
                engine: Some(EngineDescription {
                    labels: [("disk".to_owned(), "ssd".to_owned())].into(),
                    ..EngineDescription::default()
                }),
                ..NodeDescription::default()
            }),
            status: Some(NodeStatus {
                addr: "10.1.2.3".into(),
                ..NodeStatus::default()
            }),
            role: Role::Manager.into(),
            ..Node::default()
        }
    }

    fn met(text: &str) -> bool {
        Constraint::parse(text).unwrap().is_met_by(&node())
    }

    #[test]
    fn every_key_is_compared_with_what_the_node_has() {
        for text in [
            "node.id==n1id",
            "node.hostname == alpha",
            "NODE.ROLE==Manager",
            "node.ip==10.1.2.3",
            "node.ip==10.1.0.0/16",
            "node.ip!=10.2.0.0/16",
            "node.platform.os==linux",
            "node.labels.zone==eu",
            "engine.labels.disk!=hdd",
        ] {
            assert!(met(text), "{text}");
        }
        for text in [
            "node.id==N1ID",
            "node.role==worker",
            "node.labels.Zone==eu",
            "node.ip==10.2.0.0/16",
        ] {
            assert!(!met(text), "{text}");
        }
    }

    #[test]
    fn architectures_are_compared_by_one_name() {
        assert!(met("node.platform.arch==amd64"));
        assert!(met("node.platform.arch==x86_64"));
        assert!(!met("node.platform.arch==arm64"));
    }

    #[test]
    fn a_missing_label_reads_as_empty() {
        assert!(met("node.labels.rack!=r1"));
        assert!(!met("node.labels.rack==r1"));
    }

    #[test]
    fn a_malformed_constraint_is_refused_in_words() {
        let message = |text: &str| Constraint::parse(text).unwrap_err().message;
        assert_eq!(
            message("node.id"),
            "constraint expected one operator from ==, !="
        );
        assert_eq!(message("1x==a"), "key '1x' is invalid");
        assert_eq!(message("node.id=="), "value '' is invalid");
        assert_eq!(message("node.id==a;b"), "value 'a;b' is invalid");
        assert!(message("node.color==red").contains("node.color"));
        assert!(message("node.ip==somewhere").contains("CIDR"));
    }

    #[test]
    fn a_constraint_is_written_as_it_was_read() {
        let constraint = Constraint::parse(" node.labels.zone == eu ").unwrap();
        assert_eq!(constraint.to_string(), "node.labels.zone==eu");
        assert_eq!(constraint.label_to_add(), Some("zone=eu".to_owned()));
    }
}

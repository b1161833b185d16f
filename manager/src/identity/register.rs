//! What a joiner asks for, checked, and the write that makes it a node.

use std::net::IpAddr;

use ring::digest::{Context, SHA256};
use skep_proto::token::JoinToken;
use skep_proto::v1::{
    Availability, Cluster, IssueRequest, Meta, Node, NodeDescription, NodeSpec, NodeState,
    NodeStatus, RegisterNode, Role, WriteRequest, WriteResponse, object, write_request::Verb,
};
use skep_proto::{Error, Result, base36};

use super::ca::Csr;
use super::random::random_id;

const REQUEST_ID_LEN_MAX: usize = 64;
/// The longest name that a host can have.
const HOSTNAME_LEN_MAX: usize = 253;

/// A request to become a node, with everything in it well formed.
pub(super) struct Wanted {
    request_id: String,
    pub token: JoinToken,
    csr: Csr,
    availability: Availability,
    description: NodeDescription,
}

/// When its certificate begins and ends, Unix ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub now_ns: i64,
    pub not_after_ns: i64,
}

impl Wanted {
    /// Checks all that can be checked without knowing the swarm.
    pub fn parse(request: IssueRequest) -> Result<Self> {
        if request.request_id.is_empty() || request.request_id.len() > REQUEST_ID_LEN_MAX {
            return Err(Error::invalid(
                "request_id",
                format!("must have 1 to {REQUEST_ID_LEN_MAX} characters"),
            ));
        }
        let availability = Availability::try_from(request.availability).map_err(|_| {
            Error::invalid(
                "availability",
                format!("{} is none of active, pause, drain", request.availability),
            )
        })?;
        let description = request.description.unwrap_or_default();
        if description.hostname.len() > HOSTNAME_LEN_MAX {
            return Err(Error::invalid(
                "description.hostname",
                format!("is longer than {HOSTNAME_LEN_MAX} characters"),
            ));
        }
        Ok(Self {
            request_id: request.request_id,
            token: JoinToken::parse(&request.token)?,
            csr: Csr::parse(&request.csr_pem)?,
            availability,
            description,
        })
    }

    /// The write that makes it a node of the swarm in `role`. The same asker with
    /// the same request id makes the same write, so a retry makes no second node;
    /// another key makes another one, so nobody gets a certificate for a node
    /// that somebody else asked for.
    pub fn into_write(
        self,
        role: Role,
        times: Times,
        from: IpAddr,
        trust: &str,
    ) -> Result<(Csr, WriteRequest)> {
        let request_id = request_id(&self.request_id, role, self.csr.public_key());
        let node = Node {
            meta: Some(Meta {
                id: random_id()?,
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                role: role.into(),
                availability: self.availability.into(),
                ..NodeSpec::default()
            }),
            description: Some(self.description),
            status: Some(NodeStatus {
                state: NodeState::Unknown.into(),
                addr: from.to_string(),
                since_ns: times.now_ns,
                ..NodeStatus::default()
            }),
            role: role.into(),
            cert_not_after_ns: times.not_after_ns,
            cert_trust: trust.to_owned(),
            ..Node::default()
        };
        let write = WriteRequest {
            request_id,
            verb: Some(Verb::RegisterNode(RegisterNode { node: Some(node) })),
            ..WriteRequest::default()
        };
        Ok((self.csr, write))
    }
}

/// The role that a token gives in this swarm.
pub(super) fn role_of(token: &JoinToken, cluster: &Cluster) -> Result<Role> {
    let tokens = cluster.join_tokens.clone().unwrap_or_default();
    // Both are compared in full whatever the first says.
    let (worker, manager) = (
        token.matches(&tokens.worker),
        token.matches(&tokens.manager),
    );
    if manager {
        return Ok(Role::Manager);
    }
    if worker {
        return Ok(Role::Worker);
    }
    let digest = cluster.root_ca.as_ref().map(|root| root.digest.as_str());
    let hint = if digest == Some(token.digest()) {
        "it was rotated or mistyped: on a manager, skep swarm join-token worker (or manager) prints the present one"
    } else {
        "it is of another swarm, or of before its root was exchanged: on a manager, skep swarm join-token worker (or manager) prints the right one"
    };
    Err(Error::invalid(
        "token",
        "A valid join token is necessary to join this cluster",
    )
    .hint(hint))
}

/// The node that a registration made, now or at an earlier attempt.
pub(super) fn registered(response: WriteResponse, role: Role) -> Result<Node> {
    let node = match response.object.and_then(|object| object.object) {
        Some(object::Object::Node(node)) => node,
        _ => {
            return Err(Error::internal(
                "a registration was answered without a node",
            ));
        }
    };
    if node.spec.as_ref().map(NodeSpec::role) != Some(role) {
        return Err(Error::internal(
            "a registration was answered with another role",
        ));
    }
    Ok(node)
}

fn request_id(asked: &str, role: Role, public_key: &[u8]) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(asked.as_bytes());
    hash.update(role.as_str_name().as_bytes());
    hash.update(public_key);
    format!("join-{}", base36::encode(hash.finish().as_ref(), 50))
}

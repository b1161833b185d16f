//! The Identity service: certificates for those who may have one. Any manager
//! answers, since all of them hold the root's key; what it records is written
//! through the leader before a certificate is handed out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_proto::objects::Identified;
use skep_proto::transport::{Caller, PeerRole, caller};
use skep_proto::v1::identity_server::{Identity, IdentityServer};
use skep_proto::v1::{
    CertificateIssued, Cluster, IssueRequest, IssueResponse, ManagerPeer, Node, RenewRequest, Role,
    RootCa, RootCertificateRequest, RootCertificateResponse, WriteRequest, write_request::Verb,
};
use skep_proto::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use super::authorize::{authorize, wanted_role};
use super::ca::{Csr, RootAuthority, Subject};
use super::limit::RateLimit;
use super::random::random_id;
use super::{cert_expiry_ns, now_ns, register, trust_digest};
use crate::seam::{Follow, Write};
use crate::state::World;

/// The largest message that is read: a token, a request and a description.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Certificates being issued or renewed at once; more are asked to come again.
const ISSUING_MAX: usize = 128;
/// Until a call is given up: longer than an election takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings that only trials change.
#[derive(Debug, Clone, Default)]
pub struct IdentityOptions {
    /// How long node certificates live, ns, instead of what the cluster says and
    /// without its least of an hour: for trying out renewal.
    pub cert_expiry_ns: Option<i64>,
}

/// The service of one manager.
pub struct IdentityService {
    follow: Arc<dyn Follow>,
    write: Arc<dyn Write>,
    options: IdentityOptions,
    limit: RateLimit,
    slots: Semaphore,
}

impl IdentityService {
    /// A service that reads with `follow` and records with `write`.
    pub fn new(follow: Arc<dyn Follow>, write: Arc<dyn Write>, options: IdentityOptions) -> Self {
        Self {
            follow,
            write,
            options,
            limit: RateLimit::default(),
            slots: Semaphore::new(ISSUING_MAX),
        }
    }

    /// Ready to be added to a server, with its limit on messages.
    pub fn into_server(self) -> IdentityServer<Self> {
        IdentityServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn slot(&self) -> Result<SemaphorePermit<'_>> {
        self.slots.try_acquire().map_err(|_| {
            Error::unavailable(format!(
                "{ISSUING_MAX} certificates are being issued already"
            ))
            .hint("try again in a moment")
        })
    }

    fn expiry_ns(&self, cluster: &Cluster) -> i64 {
        self.options
            .cert_expiry_ns
            .unwrap_or_else(|| cert_expiry_ns(cluster.spec.as_ref()))
    }

    async fn issue_checked(&self, request: IssueRequest, from: IpAddr) -> Result<IssueResponse> {
        let wanted = register::Wanted::parse(request)?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        // A token that was rotated a moment ago must not work anywhere.
        let world = self.follow.fresh_world(deadline).await?;
        let cluster = founded(&world)?;
        let role = register::role_of(&wanted.token, cluster)?;
        let (now_ns, expiry_ns) = (now_ns(), self.expiry_ns(cluster));
        let (csr, write) = wanted.into_write(
            role,
            register::Times {
                now_ns,
                not_after_ns: now_ns.saturating_add(expiry_ns),
            },
            from,
            &trust_digest(cluster),
        )?;
        let node = register::registered(self.write.write(write, deadline).await?, role)?;
        // A retry finds the node of the first attempt, and its expiry.
        let not_after_ns = if node.cert_not_after_ns.saturating_sub(now_ns) > expiry_ns / 2 {
            node.cert_not_after_ns
        } else {
            let not_after_ns = now_ns.saturating_add(expiry_ns);
            self.record(&node, role, cluster, not_after_ns, deadline)
                .await?;
            not_after_ns
        };
        tracing::info!(
            node = node.id(),
            ?role,
            hostname = node.hostname(),
            "a node joins"
        );
        self.sign(&world, cluster, &csr, &node, role, not_after_ns)
    }

    async fn renew_checked(&self, csr_pem: &[u8], caller: &Caller) -> Result<IssueResponse> {
        let peer = caller.require(&[PeerRole::Manager, PeerRole::Worker])?;
        let csr = Csr::parse(csr_pem)?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let world = self.follow.fresh_world(deadline).await?;
        authorize(&world, caller, &[PeerRole::Manager, PeerRole::Worker])?;
        let cluster = founded(&world)?;
        let node = world
            .node(&peer.node_id)
            .ok_or_else(|| Error::not_found("node", &peer.node_id))?;
        let role = wanted_role(node);
        let not_after_ns = now_ns().saturating_add(self.expiry_ns(cluster));
        self.record(node, role, cluster, not_after_ns, deadline)
            .await?;
        self.sign(&world, cluster, &csr, node, role, not_after_ns)
    }

    /// Before a certificate is handed out, its end is known to all: a node that
    /// is removed is refused until then.
    async fn record(
        &self,
        node: &Node,
        role: Role,
        cluster: &Cluster,
        not_after_ns: i64,
        deadline: Instant,
    ) -> Result<()> {
        let request = WriteRequest {
            request_id: random_id()?,
            verb: Some(Verb::CertificateIssued(CertificateIssued {
                node_id: node.id().to_owned(),
                not_after_ns,
                role: role.into(),
                trust: trust_digest(cluster),
            })),
            ..WriteRequest::default()
        };
        self.write.write(request, deadline).await.map(|_| ())
    }

    fn sign(
        &self,
        world: &World,
        cluster: &Cluster,
        csr: &Csr,
        node: &Node,
        role: Role,
        not_after_ns: i64,
    ) -> Result<IssueResponse> {
        let subject = Subject {
            name: node.id().to_owned(),
            role: match role {
                Role::Manager => PeerRole::Manager,
                Role::Worker => PeerRole::Worker,
            },
            cluster_id: cluster.id().to_owned(),
        };
        let root = root(cluster)?;
        let cert_pem =
            RootAuthority::from_root_ca(root)?.sign(csr, &subject, now_ns(), not_after_ns)?;
        Ok(IssueResponse {
            node_id: subject.name,
            cluster_id: subject.cluster_id,
            role: role.into(),
            cert_pem,
            root_pem: root.trusted_pem(),
            managers: self.managers(world),
        })
    }

    /// Every manager, the leader first.
    fn managers(&self, world: &World) -> Vec<ManagerPeer> {
        let leader = self.follow.leadership().borrow().leader.clone();
        let leads = |id: &str| leader.as_ref().is_some_and(|leader| leader.node_id == id);
        let mut managers: Vec<ManagerPeer> = world
            .nodes()
            .filter_map(|node| {
                node.manager.as_ref().map(|manager| ManagerPeer {
                    node_id: node.id().to_owned(),
                    addr: manager.addr.clone(),
                })
            })
            .collect();
        managers.sort_by_key(|manager| !leads(&manager.node_id));
        managers
    }
}

fn founded(world: &World) -> Result<&Cluster> {
    world.cluster().map(AsRef::as_ref).ok_or_else(|| {
        Error::unavailable("this manager does not know its cluster yet")
            .hint("ask another manager, or again in a moment")
    })
}

fn root(cluster: &Cluster) -> Result<&RootCa> {
    cluster
        .root_ca
        .as_ref()
        .ok_or_else(|| Error::internal("the cluster has no root certificate").on("cluster"))
}

fn source(caller: &Caller) -> IpAddr {
    match caller {
        Caller::Certified(_, remote) | Caller::Unknown(remote) => remote.ip(),
        Caller::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn root_certificate(
        &self,
        request: Request<RootCertificateRequest>,
    ) -> Result<Response<RootCertificateResponse>, Status> {
        self.limit
            .take(source(&caller(&request)?), Instant::now())?;
        let world = self.follow.world();
        let cert_pem = root(founded(&world)?)?.cert_pem.clone();
        Ok(Response::new(RootCertificateResponse { cert_pem }))
    }

    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let from = source(&caller(&request)?);
        self.limit.take(from, Instant::now())?;
        let _slot = self.slot()?;
        let issued = self.issue_checked(request.into_inner(), from).await;
        if let Err(error) = &issued {
            tracing::info!(%from, %error, "a host may not join");
        }
        Ok(Response::new(issued?))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let caller = caller(&request)?;
        let _slot = self.slot()?;
        let renewed = self
            .renew_checked(&request.into_inner().csr_pem, &caller)
            .await?;
        Ok(Response::new(renewed))
    }
}

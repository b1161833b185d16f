//! The exchange of the root (`swarm ca --rotate`), in two steps that never leave
//! two nodes unable to talk.
//!
//! 1. [`begin_rotation`]: the new root signs from now on, and every new
//!    certificate comes with the new root signed by the old one, so that a node
//!    which trusts only the old root accepts it. Both roots are trusted by
//!    whoever renews. Join tokens change, since they name the root.
//! 2. When every node was given both roots, [`finish_rotations`] drops the old
//!    one. Every node renews once more and then trusts the new root alone.
//!
//! A node that is down holds up the second step until it is back or removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_proto::v1::{
    Cluster, JoinTokens, RootCa, RotateRootCa, WriteRequest, write_request::Verb,
};
use skep_proto::{Error, Result};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::ca::RootAuthority;
use super::random::{join_token, random_id};
use super::{now_ns, trust_digest};
use crate::seam::{Follow, Write};
use crate::state::{Applied, Changed, World};

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a step that failed is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// The write that begins an exchange of the root. Refused while one is under way.
pub fn begin_rotation(cluster: &Cluster) -> Result<RotateRootCa> {
    let root = cluster
        .root_ca
        .as_ref()
        .ok_or_else(|| Error::internal("the cluster has no root certificate").on("cluster"))?;
    if !root.previous_pem.is_empty() {
        return Err(Error::precondition(
            "the root is being exchanged already: some nodes have yet to renew",
        )
        .on("cluster")
        .hint("bring nodes that are down back, or remove them: skep node ls"));
    }
    let now_ns = now_ns();
    let (older, newer) = (
        RootAuthority::from_root_ca(root)?,
        RootAuthority::generate(now_ns)?,
    );
    let new = newer.root_ca().clone();
    Ok(RotateRootCa {
        join_tokens: Some(JoinTokens {
            worker: join_token(&new.digest)?,
            manager: join_token(&new.digest)?,
        }),
        root_ca: Some(RootCa {
            previous_pem: root.cert_pem.clone(),
            cross_pem: newer.cross_signed_by(&older, now_ns)?,
            ..new
        }),
    })
}

/// The write that drops the old root, once every node trusts the new one.
fn ended(world: &World) -> Option<RotateRootCa> {
    let cluster = world.cluster()?;
    let root = cluster.root_ca.as_ref()?;
    if root.previous_pem.is_empty() {
        return None;
    }
    let trust = trust_digest(cluster);
    if world.nodes().any(|node| node.cert_trust != trust) {
        return None;
    }
    Some(RotateRootCa {
        root_ca: Some(RootCa {
            previous_pem: Vec::new(),
            cross_pem: Vec::new(),
            ..root.clone()
        }),
        join_tokens: None,
    })
}

/// Whether this could be what an exchange under way was waiting for.
fn concerns(applied: &Applied) -> bool {
    applied.changed.iter().any(|changed| match changed {
        Changed::Cluster(..) | Changed::Node(_, None) => true,
        Changed::Node(before, Some(after)) => before
            .as_ref()
            .is_none_or(|before| before.cert_trust != after.cert_trust),
        Changed::Service(..) | Changed::Task(..) => false,
    })
}

/// Ends exchanges of the root while this manager leads. Runs until `shutdown`.
pub async fn finish_rotations(
    follow: Arc<dyn Follow>,
    write: Arc<dyn Write>,
    shutdown: CancellationToken,
) {
    let mut leadership = follow.leadership();
    let mut applied = follow.applied();
    loop {
        let leads = {
            let now = leadership.borrow_and_update();
            now.is_self.then_some(now.term)
        };
        let mut failed = false;
        if let Some(term) = leads
            && let Some(verb) = ended(&follow.world())
        {
            let request = random_id().map(|request_id| WriteRequest {
                request_id,
                term,
                verb: Some(Verb::RotateRootCa(verb)),
            });
            let written = match request {
                Ok(request) => write.write(request, Instant::now() + WRITE_TIMEOUT).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => tracing::info!("the exchange of the root is complete"),
                Err(error) => {
                    tracing::warn!(%error, "cannot drop the old root yet");
                    failed = true;
                }
            }
        }
        let concerned = async {
            loop {
                match applied.recv().await {
                    Ok(now) if concerns(&now) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            goes_on = concerned => if !goes_on { return },
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

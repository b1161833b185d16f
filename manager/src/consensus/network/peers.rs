//! One connection per manager and kind of traffic, dialled when it is needed and
//! again when our certificate has changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use skep_proto::transport::{Credentials, DialOptions, Trust, dial_lazy};
use skep_proto::v1::raft_client::RaftClient;
use tokio::runtime::Handle;
use tonic::transport::Channel;

use super::MESSAGE_BYTES_MAX;
use crate::consensus::types::RaftId;

/// What a connection is for: a long entry or snapshot must not delay a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::consensus) enum Lane {
    /// Heartbeats, votes, links, questions.
    Control,
    /// Log entries.
    Log,
    /// Snapshots.
    Bulk,
}

struct Connection {
    addr: String,
    certificate: Vec<u8>,
    client: RaftClient<Channel>,
}

/// All connections of this manager.
pub(in crate::consensus) struct Peers {
    credentials: Credentials,
    runtime: Handle,
    connections: Mutex<BTreeMap<(RaftId, Lane), Connection>>,
}

impl Peers {
    pub(in crate::consensus) fn new(credentials: Credentials, runtime: Handle) -> Self {
        Self {
            credentials,
            runtime,
            connections: Mutex::default(),
        }
    }

    /// A client for the manager at `addr`. Dials at the first call; a lost
    /// connection is dialled again by the next call.
    pub(in crate::consensus) fn client(
        &self,
        id: RaftId,
        addr: &str,
        lane: Lane,
    ) -> RaftClient<Channel> {
        let certificate = self.credentials.cert_pem();
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = connections.get(&(id, lane))
            && known.addr == addr
            && known.certificate == certificate
        {
            return known.client.clone();
        }
        let client = self.dial(addr);
        connections.insert(
            (id, lane),
            Connection {
                addr: addr.to_owned(),
                certificate,
                client: client.clone(),
            },
        );
        client
    }

    /// A client on a connection of its own.
    pub(in crate::consensus) fn dial(&self, addr: &str) -> RaftClient<Channel> {
        // The connection's tasks belong to consensus' own threads, whoever asks.
        let _inside = self.runtime.enter();
        let options = DialOptions {
            connect_timeout: Duration::from_millis(1500),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            ..DialOptions::default()
        };
        let trust = Trust::Credentials(self.credentials.clone());
        RaftClient::new(dial_lazy(addr, &trust, &options))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Closes the connections to a manager that left.
    pub(in crate::consensus) fn forget(&self, id: RaftId) {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, _), _| *known != id);
    }
}

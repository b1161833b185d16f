//! Connections to managers, kept between attempts: asking a follower again who
//! leads costs one call, not one handshake.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_proto::transport::{Credentials, DialOptions, Trust, dial_lazy};
use tonic::transport::Channel;

/// How a worker's connections watch over themselves. Heartbeats notice a
/// silent leader first; this is for the rest.
pub fn options() -> DialOptions {
    DialOptions {
        connect_timeout: Duration::from_millis(1500),
        keepalive_interval: Duration::from_secs(1),
        keepalive_timeout: Duration::from_secs(2),
        ..DialOptions::default()
    }
}

/// The connections, by address.
#[derive(Debug)]
pub struct Dialer {
    credentials: Credentials,
    /// The certificate that the kept connections were made with.
    not_after_ns: i64,
    channels: BTreeMap<String, Channel>,
}

impl Dialer {
    /// With no connection yet.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            not_after_ns: credentials.peer().not_after_ns,
            credentials,
            channels: BTreeMap::new(),
        }
    }

    /// The connection to `addr`, dialled when it is first used and whenever it broke.
    pub fn channel(&mut self, addr: &str) -> Channel {
        let not_after_ns = self.credentials.peer().not_after_ns;
        if not_after_ns != self.not_after_ns {
            // Show the new certificate everywhere.
            self.channels.clear();
            self.not_after_ns = not_after_ns;
        }
        self.channels
            .entry(addr.to_owned())
            .or_insert_with(|| {
                let trust = Trust::Credentials(self.credentials.clone());
                dial_lazy(addr, &trust, &options())
            })
            .clone()
    }

    /// Drops a connection that did not answer, and those nobody asks for.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.channels.retain(|addr, _| wanted(addr));
    }

    /// The next use dials anew.
    pub fn drop_connection(&mut self, addr: &str) {
        self.channels.remove(addr);
    }
}

//! To the leader, over mutual TLS, from a manager that does not lead.

use std::time::{Duration, Instant};

use skep_proto::transport::{Credentials, DialOptions, Trust, dial_lazy};
use skep_proto::v1::control_client::ControlClient;
use skep_proto::v1::{WriteRequest, WriteResponse};
use skep_proto::{Error, Result};
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::seam::Leader;

/// Largest request or answer, bytes; a proposal is smaller by itself.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// One connection to whoever leads.
pub(super) struct Forward {
    credentials: Credentials,
    connection: Mutex<Option<(String, Channel)>>,
}

impl Forward {
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            connection: Mutex::new(None),
        }
    }

    pub async fn write(
        &self,
        leader: &Leader,
        request: &WriteRequest,
        deadline: Instant,
    ) -> Result<WriteResponse> {
        let channel = self.channel(&leader.addr).await;
        let mut client = ControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut request = tonic::Request::new(request.clone());
        // The leader gives up a little earlier, so that its words reach the caller.
        let left = deadline.saturating_duration_since(Instant::now());
        request.set_timeout(left.saturating_sub(Duration::from_millis(20)));
        // The leader may not forward any further: two managers that think of
        // each other as the leader would send a request back and forth.
        request.metadata_mut().insert(
            "skep-forwarded",
            tonic::metadata::MetadataValue::from_static("1"),
        );
        match client.write(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                let error = Error::from(status);
                if error.is_retryable() {
                    self.connection.lock().await.take();
                }
                Err(error)
            }
        }
    }

    async fn channel(&self, addr: &str) -> Channel {
        let mut connection = self.connection.lock().await;
        if let Some((to, channel)) = connection.as_ref()
            && to == addr
        {
            return channel.clone();
        }
        let options = DialOptions {
            connect_timeout: Duration::from_millis(500),
            ..DialOptions::default()
        };
        let channel = dial_lazy(
            addr,
            &Trust::Credentials(self.credentials.clone()),
            &options,
        );
        *connection = Some((addr.to_owned(), channel.clone()));
        channel
    }
}

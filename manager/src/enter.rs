//! What a manager says before it is in the Raft group, to those who are.

use std::time::{Duration, Instant};

use skep_proto::transport::{Credentials, DialOptions, Trust, dial};
use skep_proto::v1::WriteRequest;
use skep_proto::v1::control_client::ControlClient;
use skep_proto::{Error, Result};

/// Between two rounds over all managers.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// Has any of `managers` (`host:port`) commit `request`, trying all of them in
/// turn until `deadline`. An error says of each how it failed.
pub(crate) async fn say(
    managers: &[String],
    credentials: &Credentials,
    request: &WriteRequest,
    deadline: Instant,
) -> Result<()> {
    if managers.is_empty() {
        return Err(Error::unavailable("no other manager of the swarm is known")
            .hint("join again with the address of a manager that runs"));
    }
    loop {
        let mut failures = Vec::new();
        for addr in managers {
            match ask(addr, credentials, request, deadline).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => failures.push(format!("{addr}: {error}")),
                Err(error) => return Err(error),
            }
        }
        if Instant::now() + ROUND_PAUSE >= deadline {
            return Err(Error::unavailable(format!(
                "no manager of the swarm answered: {}",
                failures.join("; ")
            )));
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

async fn ask(
    addr: &str,
    credentials: &Credentials,
    request: &WriteRequest,
    deadline: Instant,
) -> Result<()> {
    let trust = Trust::Credentials(credentials.clone());
    let channel = dial(addr, &trust, &DialOptions::default()).await?;
    let mut request = tonic::Request::new(request.clone());
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    ControlClient::new(channel).write(request).await?;
    Ok(())
}

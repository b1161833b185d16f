//! How a host becomes a node: it checks the swarm's root against its token
//! before it trusts anything, then asks for a certificate.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use skep_proto::token::{JoinToken, root_digest};
use skep_proto::transport::{DialOptions, Trust, dial};
use skep_proto::v1::identity_client::IdentityClient;
use skep_proto::v1::{
    Availability, IssueRequest, IssueResponse, ManagerPeer, NodeDescription, Role,
    RootCertificateRequest,
};
use skep_proto::{Code, Error, Result};

use super::files::CertificateFiles;
use super::request::KeyRequest;

/// Where managers listen unless told otherwise.
pub const DEFAULT_PORT: u16 = 2377;
/// Between rounds over all addresses.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than a manager takes to give up by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// A host that has become a node.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its id.
    pub node_id: String,
    /// The swarm's.
    pub cluster_id: String,
    /// What it is to be: the token said so.
    pub role: Role,
    /// Every manager, the leader first.
    pub managers: Vec<ManagerPeer>,
    /// To be saved before anything else happens.
    pub files: CertificateFiles,
}

/// `addr` with the port that managers listen on, if it names none.
pub fn with_port(addr: &str) -> String {
    match addr.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{DEFAULT_PORT}"),
        Ok(IpAddr::V4(ip)) => format!("{ip}:{DEFAULT_PORT}"),
        Err(_) if addr.ends_with(']') || !addr.contains(':') => format!("{addr}:{DEFAULT_PORT}"),
        Err(_) => addr.to_owned(),
    }
}

/// Asks the managers at `remote_addrs` (`host` or `host:port`) in turn for a
/// certificate, again and again until `deadline`. However often it asks, the
/// swarm gets one node. An error says of each address how it failed.
pub async fn join(
    remote_addrs: &[String],
    token: &str,
    availability: Availability,
    description: NodeDescription,
    deadline: Instant,
) -> Result<Joined> {
    if remote_addrs.is_empty() {
        return Err(Error::invalid("remote_addrs", "names no manager to join")
            .hint("skep swarm join --token TOKEN HOST:2377, with the address of any manager"));
    }
    let checked = JoinToken::parse(token)?;
    let key = KeyRequest::generate()?;
    let request = IssueRequest {
        request_id: format!("{:032x}", rand::random::<u128>()),
        token: checked.to_string(),
        csr_pem: key.csr_pem.clone(),
        availability: availability.into(),
        description: Some(description),
    };
    let mut places: Vec<Place> = remote_addrs.iter().map(|addr| Place::new(addr)).collect();
    let mut pause = PAUSE;
    loop {
        for place in places.iter_mut().filter(|place| !place.hopeless) {
            if Instant::now() >= deadline {
                break;
            }
            match ask(&place.addr, checked.digest(), &request, deadline).await {
                Ok(response) => return joined(&key, response),
                Err(Refusal::Swarm(error)) => return Err(error),
                Err(Refusal::Place(error)) => {
                    place.hopeless = !may_pass(&error);
                    place.error = Some(error);
                }
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || places.iter().all(|place| place.hopeless) {
            return Err(failure(places));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One address, and how it last failed.
struct Place {
    addr: String,
    error: Option<Error>,
    /// Asking again cannot help.
    hopeless: bool,
}

impl Place {
    fn new(addr: &str) -> Self {
        Self {
            addr: with_port(addr),
            error: None,
            hopeless: false,
        }
    }
}

/// Who refuses: the swarm itself, so that no other manager will say otherwise,
/// or just what is at one address.
enum Refusal {
    Swarm(Error),
    Place(Error),
}

fn may_pass(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unavailable | Code::Timeout | Code::Internal | Code::Exhausted
    )
}

async fn ask(
    addr: &str,
    digest: &str,
    request: &IssueRequest,
    deadline: Instant,
) -> Result<IssueResponse, Refusal> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let options = DialOptions {
        connect_timeout: CONNECT_TIMEOUT.min(left()),
        ..DialOptions::default()
    };
    let root_pem = fetch_root(addr, digest, &options, CALL_TIMEOUT.min(left()))
        .await
        .map_err(Refusal::Place)?;
    let channel = dial(addr, &Trust::Root(root_pem), &options)
        .await
        .map_err(Refusal::Place)?;
    let mut call = tonic::Request::new(request.clone());
    call.set_timeout(CALL_TIMEOUT);
    let mut client = IdentityClient::new(channel);
    let answer = tokio::time::timeout(CALL_TIMEOUT.min(left()), client.issue(call)).await;
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            let error = Error::from(status);
            Err(if may_pass(&error) {
                Refusal::Place(error)
            } else {
                Refusal::Swarm(error)
            })
        }
        Err(_) => Err(Refusal::Place(no_answer())),
    }
}

/// The root of the swarm at `addr`, once it is known to be the token's.
async fn fetch_root(
    addr: &str,
    digest: &str,
    options: &DialOptions,
    timeout: Duration,
) -> Result<Vec<u8>> {
    // Whoever answers may be anybody: nothing is sent, and what comes is compared.
    let channel = dial(addr, &Trust::Nobody, options).await?;
    let mut client = IdentityClient::new(channel);
    let root_pem =
        tokio::time::timeout(timeout, client.root_certificate(RootCertificateRequest {}))
            .await
            .map_err(|_| no_answer())??
            .into_inner()
            .cert_pem;
    let got = root_digest(&root_pem);
    if got != digest {
        return Err(Error::new(
            Code::Precondition,
            format!("remote CA does not match fingerprint. Expected: {digest}, got: {got}"),
        )
        .hint(
            "the address is of another swarm, or the token is from before the root was exchanged: \
             on a manager, skep swarm join-token worker (or manager) prints the right command; \
             if that is the token you have, somebody else answers at this address",
        ));
    }
    Ok(root_pem)
}

fn no_answer() -> Error {
    Error::new(Code::Timeout, "connected, but no answer came in time")
}

fn joined(key: &KeyRequest, response: IssueResponse) -> Result<Joined> {
    let files = key.issued(&response)?;
    Ok(Joined {
        role: response.role(),
        node_id: response.node_id,
        cluster_id: response.cluster_id,
        managers: response.managers,
        files,
    })
}

/// All that went wrong: the only failure as it is, or one line of each.
fn failure(places: Vec<Place>) -> Error {
    let mut failures = Vec::with_capacity(places.len());
    for place in places {
        let error = place.error.unwrap_or_else(no_answer);
        // A refused connection names its address already.
        let mut error = if error.message.contains(&place.addr) {
            error
        } else {
            let message = format!("{}: {}", place.addr, error.message);
            Error { message, ..error }
        };
        if error.hint.is_empty() {
            error.hint = hint(&error).to_owned();
        }
        failures.push(error);
    }
    if failures.len() == 1 {
        return failures.pop().unwrap_or_else(no_answer);
    }
    let lines: Vec<&str> = failures
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    Error::unavailable(format!(
        "no manager let this host join: {}",
        lines.join("; ")
    ))
    .hint(failures.first().map_or(REACH, |error| error.hint.as_str()))
}

const REACH: &str = "give the address of a manager that runs, and check that its port (2377/tcp) \
     is open to this host";

fn hint(error: &Error) -> &'static str {
    let about = |what: &str| error.message.contains(what);
    if about("not valid yet") || about("certificate expired") {
        "the clocks of this host and of the manager differ by more than an hour, or the manager's \
         certificate has expired: compare `date` on both"
    } else {
        REACH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_gets_the_managers_port() {
        for (given, full) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("m1.example", "m1.example:2377"),
            ("m1.example:99", "m1.example:99"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]", "[fd00::1]:2377"),
            ("[fd00::1]:99", "[fd00::1]:99"),
        ] {
            assert_eq!(with_port(given), full);
        }
    }

    #[tokio::test]
    async fn every_address_that_fails_is_named_and_the_deadline_kept() {
        // Bound and dropped: nothing listens there.
        let dead = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let addrs = [dead(), dead()];
        let token = JoinToken::new(&root_digest(b"root"), [1; 16]).to_string();
        let began = Instant::now();
        let error = join(
            &addrs,
            &token,
            Availability::Active,
            NodeDescription::default(),
            began + Duration::from_millis(700),
        )
        .await
        .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        for addr in &addrs {
            assert!(error.message.contains(addr.as_str()), "{error}");
        }
        assert!(error.message.contains("refused"), "{error}");
        assert!(error.hint.contains("2377"));
    }

    #[tokio::test]
    async fn a_malformed_token_is_refused_before_anything_is_sent() {
        let error = join(
            &["127.0.0.1:1".to_owned()],
            "SWMTKN-1-x",
            Availability::Active,
            NodeDescription::default(),
            Instant::now() + Duration::from_secs(1),
        )
        .await
        .unwrap_err();
        assert_eq!(error.field, "token");
    }
}

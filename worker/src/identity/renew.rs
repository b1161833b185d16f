//! A certificate that never expires while its node runs: renewed well before its
//! end, or at once when the swarm says so, without a restart.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skep_proto::transport::{
    CERT_BACKDATE_NS, Credentials, DialOptions, PeerRole, Trust, dial, validity_ns,
};
use skep_proto::v1::identity_client::IdentityClient;
use skep_proto::v1::{ManagerPeer, RenewRequest, Role};
use skep_proto::{Error, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::request::KeyRequest;

/// Where in its life a certificate is renewed: at random, so that nodes which
/// joined together do not renew together.
const RENEW_FROM: f64 = 0.5;
const RENEW_UNTIL: f64 = 0.8;
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The clock is looked at this often: it may be set, or the host may sleep.
const LOOK: Duration = Duration::from_secs(600);
/// Renewals in search of a role that the swarm announced.
const ROLE_TRIES_MAX: u32 = 20;

/// A wish to renew now: its number, and the role that is expected.
type Wish = (u64, Option<Role>);

/// The task that renews, from outside. It ends on the shutdown given to it.
#[derive(Debug)]
pub struct Renewer {
    wish: watch::Sender<Wish>,
    role: watch::Receiver<Role>,
    task: JoinHandle<()>,
}

impl Renewer {
    /// Renews `credentials`, and their files under `data_dir`, with whichever of
    /// `managers` answers.
    pub fn start(
        credentials: Credentials,
        data_dir: PathBuf,
        managers: watch::Receiver<Vec<ManagerPeer>>,
        shutdown: CancellationToken,
    ) -> Self {
        let (role_sender, role) = watch::channel(role_of(&credentials));
        let (wish, wishes) = watch::channel((0, None));
        let work = Work {
            credentials,
            data_dir,
            managers,
            role: role_sender,
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work.run(wishes) => {}
            }
        });
        Self { wish, role, task }
    }

    /// Renews at once. With `role`, the swarm announced that role, and it is
    /// asked for again until the certificate says so. The newest wish counts.
    pub fn renew_now(&self, role: Option<Role>) {
        self.wish.send_modify(|wish| *wish = (wish.0 + 1, role));
    }

    /// The role in the newest certificate; changes when the node is promoted or
    /// demoted, after [`Credentials`] and files have.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Waits until the task has ended, after its shutdown.
    pub async fn ended(self) {
        let _ = self.task.await;
    }
}

fn role_of(credentials: &Credentials) -> Role {
    match credentials.peer().role {
        PeerRole::Manager => Role::Manager,
        PeerRole::Worker | PeerRole::Operator => Role::Worker,
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

fn nanos(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// When a certificate with this life is to be renewed; `at` from 0 to 1 chooses
/// within the window.
fn renew_at_ns(not_before_ns: i64, not_after_ns: i64, at: f64) -> i64 {
    let issued_ns = not_before_ns.saturating_add(CERT_BACKDATE_NS);
    let from_ns = if issued_ns < not_after_ns {
        issued_ns
    } else {
        not_before_ns
    };
    let life_ns = not_after_ns.saturating_sub(from_ns).max(0);
    let part = RENEW_FROM + (RENEW_UNTIL - RENEW_FROM) * at.clamp(0.0, 1.0);
    from_ns.saturating_add(nanos(life_ns).mul_f64(part).as_nanos() as i64)
}

struct Work {
    credentials: Credentials,
    data_dir: PathBuf,
    managers: watch::Receiver<Vec<ManagerPeer>>,
    role: watch::Sender<Role>,
}

impl Work {
    async fn run(mut self, mut wishes: watch::Receiver<Wish>) {
        loop {
            self.wait(&mut wishes).await;
            let mut expected = wishes.borrow_and_update().1;
            let (mut failures, mut role_tries) = (0u32, 0u32);
            loop {
                let outcome = self.renew().await;
                let again = match &outcome {
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        self.complain(error);
                        true
                    }
                    Ok(role) => {
                        role_tries += 1;
                        expected.is_some_and(|e| e != *role) && role_tries < ROLE_TRIES_MAX
                    }
                };
                if !again {
                    break;
                }
                let tries = failures.saturating_add(role_tries);
                tokio::select! {
                    () = tokio::time::sleep(self.backoff(tries)) => {}
                    // Dropped handle: go on by the clock alone.
                    Ok(()) = wishes.changed() => {
                        expected = wishes.borrow_and_update().1;
                        (failures, role_tries) = (0, 0);
                    }
                    // Others to ask: perhaps one of them can be reached.
                    Ok(()) = self.managers.changed(), if outcome.is_err() => {}
                }
            }
        }
    }

    /// Until it is time, or until it is wished for.
    async fn wait(&self, wishes: &mut watch::Receiver<Wish>) {
        let (from_ns, until_ns) = self.validity();
        let at_ns = renew_at_ns(from_ns, until_ns, rand::random());
        loop {
            let left = nanos(at_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                Ok(()) = wishes.changed() => return,
            }
        }
    }

    fn validity(&self) -> (i64, i64) {
        let pem = self.credentials.cert_pem();
        validity_ns(&pem).unwrap_or_else(|| {
            let until_ns = self.credentials.peer().not_after_ns;
            (until_ns, until_ns)
        })
    }

    /// Ever longer, but a certificate that is about to end is tried more often.
    fn backoff(&self, tries: u32) -> Duration {
        let left = nanos(
            self.credentials
                .peer()
                .not_after_ns
                .saturating_sub(now_ns()),
        );
        let most = (left / 10).clamp(BACKOFF, BACKOFF_MAX);
        let full = BACKOFF
            .saturating_mul(1u32 << tries.saturating_sub(1).min(16))
            .min(most);
        full.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    fn complain(&self, error: &Error) {
        if self.credentials.peer().not_after_ns <= now_ns() {
            tracing::error!(%error, "this node's certificate has expired and cannot be renewed: \
                skep swarm leave --force, then join again");
        } else {
            tracing::warn!(%error, "cannot renew this node's certificate yet");
        }
    }

    /// Asks one manager after the other, in no particular order.
    async fn renew(&self) -> Result<Role> {
        let mut managers = self.managers.borrow().clone();
        let mut failed = Error::unavailable("no manager is known to ask");
        while !managers.is_empty() {
            let manager = managers.swap_remove(rand::random_range(0..managers.len()));
            match self.renew_with(&manager.addr).await {
                Ok(role) => return Ok(role),
                Err(error) => {
                    let message = format!("{}: {}", manager.addr, error.message);
                    failed = Error { message, ..error };
                }
            }
        }
        Err(failed)
    }

    async fn renew_with(&self, addr: &str) -> Result<Role> {
        let key = KeyRequest::generate()?;
        let trust = Trust::Credentials(self.credentials.clone());
        let channel = dial(addr, &trust, &DialOptions::default()).await?;
        let mut request = tonic::Request::new(RenewRequest {
            csr_pem: key.csr_pem.clone(),
        });
        request.set_timeout(CALL_TIMEOUT);
        let mut client = IdentityClient::new(channel);
        let response = tokio::time::timeout(CALL_TIMEOUT, client.renew(request))
            .await
            .map_err(|_| Error::new(skep_proto::Code::Timeout, "no answer in time"))??
            .into_inner();
        let files = key.issued(&response)?;
        // A certificate that cannot be saved still serves this process; what is
        // on disk is older but valid, and saving is tried again with the next.
        let saved = files.save(&self.data_dir);
        self.credentials
            .replace(&files.cert_pem, &files.key_pem, &files.root_pem)
            .map_err(|e| Error::internal(format!("the new certificate cannot be used: {e}")))?;
        let role = response.role();
        tracing::info!(?role, "renewed this node's certificate");
        self.role.send_if_modified(|now| {
            let changed = *now != role;
            *now = role;
            changed
        });
        saved.map(|()| role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_between_half_and_four_fifths_of_its_life() {
        const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
        let issued_ns = 1_000 * DAY_NS;
        let (from, until) = (issued_ns - CERT_BACKDATE_NS, issued_ns + 90 * DAY_NS);
        assert_eq!(renew_at_ns(from, until, 0.0), issued_ns + 45 * DAY_NS);
        assert_eq!(renew_at_ns(from, until, 1.0), issued_ns + 72 * DAY_NS);
    }

    #[test]
    fn a_certificate_of_seconds_is_renewed_within_them() {
        const SECOND_NS: i64 = 1_000_000_000;
        let issued_ns = 1_000_000 * SECOND_NS;
        let (from, until) = (issued_ns - CERT_BACKDATE_NS, issued_ns + 10 * SECOND_NS);
        assert_eq!(renew_at_ns(from, until, 0.0), issued_ns + 5 * SECOND_NS);
        assert_eq!(renew_at_ns(from, until, 1.0), issued_ns + 8 * SECOND_NS);
    }
}

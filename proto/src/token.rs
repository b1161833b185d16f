//! Join tokens, in Swarm's form: `SWMTKN-1-<digest>-<secret>`. The digest lets
//! the joiner know the swarm's root certificate before it trusts anything; the
//! secret lets the managers know the joiner, and says which role it gets.

use ring::digest::{SHA256, digest};

use crate::v1::RootCa;
use crate::{Error, Result, base36};

const PREFIX: &str = "SWMTKN";
const VERSION: &str = "1";
const DIGEST_LEN: usize = 50;
const SECRET_LEN: usize = 25;
const HINT: &str =
    "on a manager, skep swarm join-token worker (or manager) prints the whole command";

/// Random bytes in a token's secret.
pub const SECRET_BYTES: usize = 16;

/// The digest of a root certificate (PEM, byte for byte as the cluster stores
/// it), as it stands in join tokens.
pub fn root_digest(root_pem: &[u8]) -> String {
    base36::encode(digest(&SHA256, root_pem).as_ref(), DIGEST_LEN)
}

impl RootCa {
    /// Every root that members trust, PEM: one, or two while the root is being
    /// exchanged.
    pub fn trusted_pem(&self) -> Vec<u8> {
        [self.cert_pem.as_slice(), self.previous_pem.as_slice()].concat()
    }

    /// What `Node.cert_trust` is of a node that trusts just those.
    pub fn trust_digest(&self) -> String {
        root_digest(&self.trusted_pem())
    }
}

/// A join token that is well formed; whether it is *valid* its swarm knows.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    digest: String,
    secret: String,
}

impl JoinToken {
    /// A token for the swarm whose root has this [`root_digest`]. The bytes must
    /// come from the operating system's randomness.
    pub fn new(root_digest: &str, secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            digest: root_digest.to_owned(),
            secret: base36::encode(&secret, SECRET_LEN),
        }
    }

    /// Reads a token that a person typed; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let wrong = |message: String| Err(Error::invalid("token", message).hint(HINT));
        if text.is_empty() {
            return wrong("is empty".to_owned());
        }
        let parts: Vec<&str> = text.split('-').collect();
        let (version, digest, secret) = match parts.as_slice() {
            [PREFIX, version, digest, secret] => (*version, *digest, *secret),
            [PREFIX, "2", ..] => {
                return wrong("is of Swarm's FIPS mode (SWMTKN-2), which is not supported".into());
            }
            [PREFIX, rest @ ..] => {
                return wrong(format!(
                    "has {} parts after SWMTKN, not the 3 of SWMTKN-1-<digest>-<secret>",
                    rest.len()
                ));
            }
            _ => return wrong("is no join token: one begins with SWMTKN-1-".to_owned()),
        };
        if version != VERSION {
            return wrong("has an unknown version: only SWMTKN-1 is known".to_owned());
        }
        for (what, part, len) in [
            ("digest", digest, DIGEST_LEN),
            ("secret", secret, SECRET_LEN),
        ] {
            if part.len() != len {
                return wrong(format!(
                    "has a {what} of {} characters instead of {len}: some of it is missing or too much",
                    part.len()
                ));
            }
            if !base36::is_base36(part) {
                return wrong(format!(
                    "has a {what} with other characters than 0-9 and a-z"
                ));
            }
        }
        Ok(Self {
            digest: digest.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// The [`root_digest`] of its swarm.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether this is the token `stored`, in a time that says nothing about
    /// where the two differ.
    pub fn matches(&self, stored: &str) -> bool {
        same(self.to_string().as_bytes(), stored.as_bytes())
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}-{VERSION}-{}-{}", self.digest, self.secret)
    }
}

impl std::fmt::Debug for JoinToken {
    /// Without its secret: this is for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}-{VERSION}-{}-…", self.digest)
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a
        .iter()
        .zip(b)
        .fold(0u8, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    a.len() == b.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new(&root_digest(b"root"), [7; SECRET_BYTES])
    }

    #[test]
    fn a_token_reads_back_and_matches_itself_only() {
        let text = token().to_string();
        let read = JoinToken::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(read, token());
        assert!(read.matches(&text));
        assert!(!read.matches(""));
        let other = JoinToken::new(&root_digest(b"root"), [8; SECRET_BYTES]);
        assert!(!read.matches(&other.to_string()));
    }

    #[test]
    fn a_malformed_token_is_told_what_is_wrong() {
        let good = token().to_string();
        let cut = good.get(..good.len() - 1).unwrap();
        let upper = good.to_uppercase();
        for (text, said) in [
            ("", "is empty"),
            ("hello", "begins with SWMTKN-1-"),
            ("SWMTKN-1-abc", "2 parts"),
            ("SWMTKN-2-1-a-b", "FIPS"),
            ("SWMTKN-3-a-b", "unknown version"),
            ("SWMTKN-1-a-b", "digest of 1 characters"),
            (cut, "secret of 24 characters"),
            (upper.as_str(), "0-9 and a-z"),
        ] {
            let error = JoinToken::parse(text).unwrap_err();
            assert_eq!(error.field, "token");
            assert!(error.message.contains(said), "{text}: {error}");
            assert!(!error.hint.is_empty());
        }
    }

    #[test]
    fn a_log_line_does_not_hold_the_secret() {
        let secret = token().secret;
        assert!(!format!("{:?}", token()).contains(&secret));
    }
}

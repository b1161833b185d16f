//! What must not be guessed comes from the operating system's randomness.

use ring::rand::{SecureRandom, SystemRandom};
use skep_proto::token::{JoinToken, SECRET_BYTES};
use skep_proto::{Error, Result, base36};

/// Characters of an id.
const ID_LEN: usize = 25;

pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the operating system gives no random bytes"))?;
    Ok(bytes)
}

/// An id of 25 characters in base 36, as Swarm's are: for nodes and clusters.
pub fn random_id() -> Result<String> {
    // 17 bytes make 27 digits; the first ones are not evenly spread.
    let digits = base36::encode(&random_bytes::<17>()?, ID_LEN + 2);
    Ok(digits.chars().skip(2).collect())
}

/// A new join token for the swarm whose root has this digest.
pub fn join_token(root_digest: &str) -> Result<String> {
    let secret = random_bytes::<SECRET_BYTES>()?;
    Ok(JoinToken::new(root_digest, secret).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_25_characters_and_differ() {
        let (a, b) = (random_id().unwrap(), random_id().unwrap());
        assert_eq!((a.len(), b.len()), (ID_LEN, ID_LEN));
        assert!(base36::is_base36(&a));
        assert_ne!(a, b);
    }
}

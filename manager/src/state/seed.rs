//! Randomness that is handed in. Each purpose draws from a generator of its
//! own, so that one more service renumbers nothing of the others.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a generator is asked for numbers with.
pub use rand_chacha::rand_core::Rng;

/// Characters of an id, as Swarm writes them.
const ID_LEN: usize = 25;

/// The source of all ids and ties of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// A generator for one purpose (`"task"`) and one subject (a service's id
    /// and slot, say): the same three always give the same numbers.
    pub fn generator(self, purpose: &str, subject: &str) -> ChaCha12Rng {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(purpose).to_le_bytes());
        key[16..24].copy_from_slice(&fnv1a(subject).to_le_bytes());
        ChaCha12Rng::from_seed(key)
    }

    /// An id of 25 characters in base 36, as Swarm's are.
    pub fn id(self, purpose: &str, subject: &str) -> String {
        let mut rng = self.generator(purpose, subject);
        let mut id = String::with_capacity(ID_LEN);
        while id.len() < ID_LEN {
            let n = rng.next_u32();
            // 36^5 < 2^26: five digits from each draw, unbiased enough to name things.
            let mut n = n % 36u32.pow(5);
            for _ in 0..5 {
                id.push(char::from_digit(n % 36, 36).unwrap_or('0'));
                n /= 36;
            }
        }
        id
    }
}

/// FNV-1a, 64 bits: stable across versions, which `std`'s hashers are not.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_apart() {
        let seed = Seed(7);
        assert_eq!(seed.id("task", "a.1"), seed.id("task", "a.1"));
        assert_ne!(seed.id("task", "a.1"), seed.id("task", "a.2"));
        assert_ne!(seed.id("task", "a.1"), Seed(8).id("task", "a.1"));
        assert_eq!(seed.id("task", "a.1").len(), ID_LEN);
    }
}

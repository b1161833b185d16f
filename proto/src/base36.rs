//! Numbers as Swarm writes them in ids and join tokens: base 36, lower case.

const RADIX: u32 = 36;

/// The big-endian number in `bytes`, zero-padded on the left to `width` digits.
/// A number that needs more digits keeps them all.
pub fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(width);
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut number {
            let part = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(part / RADIX).unwrap_or(u8::MAX);
            rest = part % RADIX;
        }
        digits.push(char::from_digit(rest, RADIX).unwrap_or('0'));
    }
    while digits.len() < width {
        digits.push('0');
    }
    digits.iter().rev().collect()
}

/// Whether `text` has only digits of this base.
pub fn is_base36(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_padded_to_its_width() {
        assert_eq!(encode(&[0, 0, 35], 4), "000z");
        assert_eq!(encode(&[1, 0], 1), "74");
        assert_eq!(encode(&[], 3), "000");
    }

    #[test]
    fn the_largest_digest_and_secret_fit_their_widths() {
        assert_eq!(encode(&[0xff; 32], 50).len(), 50);
        assert_eq!(encode(&[0xff; 16], 25).len(), 25);
    }
}

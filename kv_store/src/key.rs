//! The name of a block in a store.

use std::fmt;

/// Names a block: a BLAKE3 hash over the model's identity and all tokens up to the end of the block.
///
/// The engine computes it. Two blocks with the same key have the same content, so a store never has to
/// replace a block by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey(pub [u8; 32]);

impl BlockKey {
    /// The key whose [`Display`](fmt::Display) form is `hex`.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 64 {
            return None;
        }
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            // `from_str_radix` would accept a sign and capital letters.
            let digits =
                digits.iter().all(|digit| b"0123456789abcdef".contains(digit)).then_some(digits)?;
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for BlockKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written() {
        let key = BlockKey(std::array::from_fn(|i| i as u8 * 8));
        assert!(key.to_string().starts_with("000810"));
        assert_eq!(BlockKey::from_hex(&key.to_string()), Some(key));
    }

    #[test]
    fn other_names_are_no_keys() {
        let hex = BlockKey([0xab; 32]).to_string();
        for name in ["", "ab", &hex[1..], &hex.to_uppercase(), &hex.replace("ab", "+b")] {
            assert_eq!(BlockKey::from_hex(name), None, "{name}");
        }
    }
}

//! The limits of the CUDA kernels, read from `limits.h` at compile time.
//!
//! The crate `colm-kernels` includes this file as well, so that builds without the CUDA kernels check the limits too.

const HEADER: &str = include_str!("../limits.h");

/// Chains of a launch.
pub const MAX_CHAINS: usize = limit("#define COLM_MAX_CHAINS ");
/// Products of a linear launch: queries, keys and values of every chain.
pub const MAX_PRODUCTS: usize = limit("#define COLM_MAX_PRODUCTS ");
/// Up to this many rows of a chain, the linear layers use skinny tiles, those of decoding.
pub const MAX_SKINNY_ROWS: usize = limit("#define COLM_MAX_SKINNY_ROWS ");
/// Numbers of bf16 or f16 in a 16-byte access: widths are multiples of this.
pub const VECTOR: usize = limit("#define COLM_VECTOR ");
/// The supported numbers per head.
pub const HEAD_DIMS: [usize; 3] = limits("#define COLM_HEAD_DIMS ");
/// The supported positions per KV block.
pub const BLOCK_SIZES: [usize; 4] = limits("#define COLM_BLOCK_SIZES ");
/// Queries of an attention decode tile, and so of a partial result.
pub const DECODE_QUERIES: usize = limit("#define COLM_DECODE_QUERIES ");

const _: () = assert!(MAX_PRODUCTS == 3 * MAX_CHAINS);

const fn limit(definition: &str) -> usize {
    let [value] = limits(definition);
    value
}

/// The comma-separated numbers after `definition` in the header. It is a compile error if the definition is missing or
/// has another number of values.
const fn limits<const N: usize>(definition: &str) -> [usize; N] {
    let header = HEADER.as_bytes();
    let mut at = position(header, definition.as_bytes()) + definition.len();
    let mut values = [0; N];
    let mut index = 0;
    while header[at] != b'\n' {
        match header[at] {
            digit @ b'0'..=b'9' => values[index] = 10 * values[index] + (digit - b'0') as usize,
            b',' => index += 1,
            b' ' => {}
            _ => panic!("a limit is not a list of numbers"),
        }
        at += 1;
    }
    assert!(index + 1 == N, "a limit has another number of values");
    values
}

/// The first index of `needle` in `haystack`.
const fn position(haystack: &[u8], needle: &[u8]) -> usize {
    let mut start = 0;
    while start + needle.len() <= haystack.len() {
        let mut len = 0;
        while len < needle.len() && haystack[start + len] == needle[len] {
            len += 1;
        }
        if len == needle.len() {
            return start;
        }
        start += 1;
    }
    panic!("limits.h does not define a limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_parsed() {
        assert_eq!((MAX_CHAINS, MAX_PRODUCTS, MAX_SKINNY_ROWS), (16, 48, 32));
        assert_eq!((VECTOR, DECODE_QUERIES), (8, 16));
        assert_eq!((HEAD_DIMS, BLOCK_SIZES), ([32, 64, 128], [16, 32, 48, 64]));
        assert!(BLOCK_SIZES.iter().all(|size| size.is_multiple_of(16)));
    }
}

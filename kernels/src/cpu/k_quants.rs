//! What ggml's k-quants have in common: blocks of 256 inputs, scales of groups of them, and numbers of
//! a few bits.

use super::outer::COLUMNS;
use super::register::Register;

/// Inputs of a block.
pub(crate) const INPUTS: usize = 256;

/// Per input and column a number of `BITS` bits; a word has those of several inputs, one after the
/// other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<const BITS: usize, const WORDS: usize>([[u32; COLUMNS]; WORDS]);

impl<const BITS: usize, const WORDS: usize> Bits<BITS, WORDS> {
    pub(crate) const ZERO: Self = Self([[0; COLUMNS]; WORDS]);

    /// Inputs of a word.
    const PER_WORD: usize = 32 / BITS;
    const MASK: u32 = (1 << BITS) - 1;

    /// Puts a number where there was zero.
    pub(crate) fn put(&mut self, i: usize, column: usize, number: u8) {
        let shift = i % Self::PER_WORD * BITS;
        self.0[i / Self::PER_WORD][column] |= u32::from(number) << shift;
    }

    #[inline(always)]
    pub(crate) fn get(&self, i: usize, column: usize) -> u8 {
        let shift = i % Self::PER_WORD * BITS;
        (self.0[i / Self::PER_WORD][column] >> shift & Self::MASK) as u8
    }

    /// The numbers of i and the columns of a register from `column` on.
    ///
    /// # Safety
    /// As [`Register`] demands; i and the columns must be within the array.
    #[inline(always)]
    pub(crate) unsafe fn load<R: Register>(&self, i: usize, column: usize) -> R {
        let shift = i % Self::PER_WORD * BITS;
        // SAFETY: i and the columns are within the array, as the caller promises.
        unsafe {
            let words = self.0.as_ptr().add(i / Self::PER_WORD).cast::<u32>();
            R::load_bits(words.add(column), shift as u32, Self::MASK)
        }
    }
}

/// From the 12 bytes that a Q4_K or Q5_K block has for them, the scales and minima of its eight groups,
/// 6 bits each. The first four of
/// both have a byte each; the last four of both share a byte for their lower halves, and the upper two
/// bits of the first bytes have the rest.
pub(crate) fn scales_and_mins(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let both: [u8; 8] = std::array::from_fn(|at| bytes[at] & 63);
    let rest: [u8; 8] = std::array::from_fn(|at| bytes[at] >> 6 << 4);
    let scale = |group: usize| match group {
        0..4 => both[group],
        _ => bytes[group + 4] & 15 | rest[group - 4],
    };
    let min = |group: usize| match group {
        0..4 => both[group + 4],
        _ => bytes[group + 4] >> 4 | rest[group],
    };
    (std::array::from_fn(scale), std::array::from_fn(min))
}

/// The bytes that [`scales_and_mins`] reads.
pub(crate) fn bytes_of(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|at| match at {
        0..4 => scales[at] | scales[at + 4] >> 4 << 6,
        4..8 => mins[at - 4] | mins[at] >> 4 << 6,
        _ => scales[at - 4] & 15 | mins[at - 4] << 4,
    })
}

/// Of the bytes that a Q4_K or Q5_K block has for numbers, the half that is of input i of `group`: two
/// groups have their bytes together.
pub(crate) fn half_byte(bytes: &[u8], group: usize, i: usize) -> u8 {
    bytes[group / 2 * 32 + i] >> (group % 2 * 4) & 15
}

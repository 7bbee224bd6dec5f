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

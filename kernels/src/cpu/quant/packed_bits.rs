//! Arrays of numbers of a few bits.

use crate::cpu::arch::SimdVector;
use crate::cpu::gemm::NR;

/// One `BITS`-bit number per depth and column. A 32-bit word holds the numbers of one column at consecutive depths, the
/// first in the lowest bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedBits<const BITS: usize, const WORDS: usize>([[u32; NR]; WORDS]);

impl<const BITS: usize, const WORDS: usize> PackedBits<BITS, WORDS> {
    pub(super) const ZERO: Self = Self([[0; NR]; WORDS]);

    /// Numbers per word.
    const PER_WORD: usize = 32 / BITS;
    const MASK: u32 = (1 << BITS) - 1;

    /// Sets a number that is still zero.
    pub(super) fn set(&mut self, depth: usize, column: usize, number: u8) {
        let shift = depth % Self::PER_WORD * BITS;
        self.0[depth / Self::PER_WORD][column] |= u32::from(number) << shift;
    }

    #[inline(always)]
    pub(super) fn get(&self, depth: usize, column: usize) -> u8 {
        let shift = depth % Self::PER_WORD * BITS;
        (self.0[depth / Self::PER_WORD][column] >> shift & Self::MASK) as u8
    }

    /// The numbers at `depth`, for one vector of columns from `column` on, as f32.
    ///
    /// # Safety
    /// The contract of [`SimdVector`]; the depth and the columns must be within the array.
    #[inline(always)]
    pub(super) unsafe fn load<V: SimdVector>(&self, depth: usize, column: usize) -> V {
        let shift = depth % Self::PER_WORD * BITS;
        // SAFETY: the caller keeps the depth and the columns within the array.
        unsafe {
            let words = self.0.as_ptr().add(depth / Self::PER_WORD).cast::<u32>();
            V::load_bits(words.add(column), shift as u32, Self::MASK)
        }
    }
}

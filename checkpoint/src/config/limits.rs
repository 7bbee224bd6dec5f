//! Upper limits of the numbers in config.json. They keep sizes of a damaged file from overflowing.

/// The most chains of a model: tens of times more than any model has.
pub(crate) const MAX_CHAINS: usize = 256;
/// The largest value of any width: far above any model, and small enough that the product of two
/// widths in bytes fits 64 bits.
pub(crate) const MAX_SIZE: usize = i32::MAX as usize;
/// The most layers: tens of times those of the deepest models.
pub(crate) const MAX_LAYERS: usize = 10_000;
/// The most positions: ten times those of the longest contexts.
pub(crate) const MAX_POSITIONS: usize = 100_000_000;

//! The micro-kernel, generic over the SIMD vector, the tile size and the rhs type.
//!
//! It is written with intrinsics because the compiler vectorizes some row counts and not others.

use super::{NrVector, PackedRhs, MR, NR, SMALL_MR};
use crate::cpu::arch::{prefetch_at, SimdVector};

/// Up to this many rows, a product may wait for memory.
pub(crate) const PREFETCH_ROWS: usize = 6;

/// Panics unless the lengths satisfy the contract of [`Isa::micro_kernel`](crate::cpu::arch::Isa::micro_kernel).
#[inline(always)]
pub(crate) fn check_micro_kernel<W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &[NrVector],
) {
    let (rows, depth) = (lhs.len(), rhs.len() * W::DEPTH);
    let max_rows = if W::FULL_MR { MR } else { SMALL_MR };
    assert!(
        rows == acc.len() && rows <= max_rows && depth <= DEPTH,
        "a register tile of {rows} rows and depth {depth}"
    );
}

/// One register tile: `R` rows from `row` on by `C` vectors of columns from `column` on.
///
/// # Safety
/// The processor must have the instructions of `V`. `lhs` and `acc` must have the rows, `rhs` must be at most `DEPTH`
/// deep, and the columns must be below [`NR`].
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, so `tile` is in registers"
)]
pub(crate) unsafe fn register_tile<
    V: SimdVector,
    const R: usize,
    const C: usize,
    W: PackedRhs,
    const DEPTH: usize,
>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
    row: usize,
    column: usize,
) {
    debug_assert!(row + R <= lhs.len() && column + C * V::LANES <= NR);
    // SAFETY: the caller upholds the contract above.
    unsafe {
        let mut tile = [[V::splat(0.0); C]; R];
        for r in 0..R {
            let from = acc.get_unchecked(row + r).as_ptr().add(column);
            for c in 0..C {
                tile[r][c] = V::load_f32(from.add(c * V::LANES));
            }
        }
        let mut lhs = lhs.as_ptr().add(row).cast::<f32>();
        // Unrolled by hand where a product waits for memory: the compiler does so for some types only.
        let (fours, rest) =
            if R <= 2 && W::DEPTH == 1 { rhs.as_chunks::<4>() } else { (&[][..], rhs) };
        for [first, second, third, fourth] in fours {
            add_element::<V, R, C, W, DEPTH>(lhs, first, column, &mut tile);
            add_element::<V, R, C, W, DEPTH>(lhs.add(W::DEPTH), second, column, &mut tile);
            add_element::<V, R, C, W, DEPTH>(lhs.add(2 * W::DEPTH), third, column, &mut tile);
            add_element::<V, R, C, W, DEPTH>(lhs.add(3 * W::DEPTH), fourth, column, &mut tile);
            lhs = lhs.add(4 * W::DEPTH);
        }
        for rhs in rest {
            add_element::<V, R, C, W, DEPTH>(lhs, rhs, column, &mut tile);
            lhs = lhs.add(W::DEPTH);
        }
        for r in 0..R {
            let to = acc.get_unchecked_mut(row + r).as_mut_ptr().add(column);
            for c in 0..C {
                tile[r][c].store(to.add(c * V::LANES));
            }
        }
    }
}

/// Adds the products with one rhs element. `lhs` points to the number of the first row at its first depth.
///
/// # Safety
/// As for [`register_tile`].
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, so `tile` is in registers"
)]
unsafe fn add_element<
    V: SimdVector,
    const R: usize,
    const C: usize,
    W: PackedRhs,
    const DEPTH: usize,
>(
    lhs: *const f32,
    rhs: &W,
    column: usize,
    tile: &mut [[V; C]; R],
) {
    // SAFETY: the caller upholds the contract above.
    unsafe {
        if R <= PREFETCH_ROWS && W::PREFETCH_DISTANCE > 0 {
            prefetch_at(rhs, W::PREFETCH_DISTANCE);
        }
        for group in 0..W::DEPTH / W::GROUP {
            // Not `std::array::from_fn`: it may stay a function compiled for the baseline.
            let mut scales = [rhs.load_scales::<V>(group, column); C];
            for c in 1..C {
                scales[c] = rhs.load_scales::<V>(group, column + c * V::LANES);
            }
            for step in 0..W::GROUP / W::UNROLL {
                let first = group * W::GROUP + step * W::UNROLL;
                // Unrolled by hand: the compiler unrolls only small bodies.
                macro_rules! unrolled {
                    ($($i:literal)*) => {
                        $(if $i < W::UNROLL {
                            let (depth, lhs) = (first + $i, lhs.add(first + $i));
                            rank_one_update::<V, R, C, W, DEPTH>(lhs, rhs, depth, column, &scales, tile);
                        })*
                    };
                }
                unrolled!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            }
        }
    }
}

/// Adds the products at one depth. `lhs` points to the number of the first row at that depth.
///
/// # Safety
/// As for [`register_tile`]. `depth` must be below `W::DEPTH`, and `scales` must be those of its group.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, so `tile` is in registers"
)]
unsafe fn rank_one_update<
    V: SimdVector,
    const R: usize,
    const C: usize,
    W: PackedRhs,
    const DEPTH: usize,
>(
    lhs: *const f32,
    rhs: &W,
    depth: usize,
    column: usize,
    scales: &[W::Scales<V>; C],
    tile: &mut [[V; C]; R],
) {
    // SAFETY: the caller upholds the contract above.
    unsafe {
        let mut values = [rhs.load::<V>(depth, column, scales[0]); C];
        for c in 1..C {
            values[c] = rhs.load::<V>(depth, column + c * V::LANES, scales[c]);
        }
        for r in 0..R {
            let lhs = V::splat(*lhs.add(r * DEPTH));
            for c in 0..C {
                tile[r][c] = tile[r][c].add_product(lhs, values[c]);
            }
        }
    }
}

/// Converts a packed rhs panel to f32: one vector of columns per depth.
///
/// # Panics
/// If the length of `to` is not the depth of `rhs`.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn widen<V: SimdVector, W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
    assert_eq!(to.len(), rhs.len() * W::DEPTH);
    for (rhs, to) in rhs.iter().zip(to.chunks_exact_mut(W::DEPTH)) {
        for (group, to) in to.chunks_exact_mut(W::GROUP).enumerate() {
            for column in (0..NR).step_by(V::LANES) {
                // SAFETY: the columns are below `NR`, the group and its depths within `DEPTH`.
                unsafe {
                    let scales = rhs.load_scales::<V>(group, column);
                    for (step, to) in to.chunks_exact_mut(W::UNROLL).enumerate() {
                        for i in 0..W::UNROLL {
                            let depth = group * W::GROUP + step * W::UNROLL + i;
                            let values = rhs.load::<V>(depth, column, scales);
                            values.store(to.get_unchecked_mut(i).as_mut_ptr().add(column));
                        }
                    }
                }
            }
        }
    }
}

//! The computation everything rests on: sums of outer products of short columns and rows,
//! `sums[row][column] += left[row][i] * right[i][column]`.
//!
//! Every number of `sums` is one chain of multiply-adds in the order of i, whatever stands beside
//! it: that is why a row's result does not depend on its company. What is left to choose is how many
//! of these chains the registers hold at once. It is written with the processor's own instructions
//! because the compiler, left to itself, vectorises some numbers of rows and not others.

use candle_core::DType;

use super::register::Register;
use super::Element;

/// The most rows of one call: with [`COLUMNS`], as many sums as the registers of AVX-512 hold.
pub(crate) const ROWS: usize = 12;

/// The most rows of one call with weights that are [turned into f32](widen) for more.
pub(crate) const FEW_ROWS: usize = 4;

/// Columns of one call: two registers of AVX-512, four of AVX2, eight of NEON.
pub(crate) const COLUMNS: usize = 32;

/// One number per column.
pub(crate) type Columns = [f32; COLUMNS];

/// Panics if the lengths do not fit: see [`super::instructions::Instructions::add_outer_products`].
#[inline(always)]
pub(crate) fn check<W: Right, const DEPTH: usize>(
    left: &[[f32; DEPTH]],
    right: &[W],
    sums: &[Columns],
) {
    let (rows, depth) = (left.len(), right.len() * W::INPUTS);
    let most = if W::MANY_ROWS { ROWS } else { FEW_ROWS };
    assert!(rows == sums.len() && rows <= most && depth <= DEPTH, "{rows} rows, {depth} deep");
}

/// What stands at the right: the numbers of the [`COLUMNS`] columns for one i or several.
pub(crate) trait Right: Sized {
    /// For how many i.
    const INPUTS: usize;

    /// How many of them, one after the other, share what is loaded once for all: `INPUTS` or a part.
    const GROUP: usize;

    /// How many of a group are worked through without a loop, because what is to be done for one i is
    /// then known beforehand: a divisor of `GROUP`, 16 at most.
    const STEP: usize;

    /// Whether the numbers are f32, as they are.
    const IS_F32: bool = false;

    /// Whether there is code for up to [`ROWS`] rows, or for [`FEW_ROWS`], and more of them read what
    /// [`widen`] has made of it: slower for some of them, but little to compile.
    const MANY_ROWS: bool;

    /// What a group shares.
    type Shared<R: Register>: Copy;

    /// What `group` shares, for the columns of a register from `column` on.
    ///
    /// # Safety
    /// As [`Register`] demands; the columns must be within [`COLUMNS`], the group within `INPUTS`.
    unsafe fn shared<R: Register>(&self, group: usize, column: usize) -> Self::Shared<R>;

    /// The numbers of i and the columns of a register from `column` on. `shared` is of the group of i.
    ///
    /// # Safety
    /// As for [`Right::shared`]; `i` must be below `INPUTS`.
    unsafe fn load<R: Register>(&self, i: usize, column: usize, shared: Self::Shared<R>) -> R;

    /// One number.
    fn number(&self, i: usize, column: usize) -> f32;
}

/// One number per column, as it is.
impl<T: Element> Right for [T; COLUMNS] {
    const INPUTS: usize = 1;
    const GROUP: usize = 1;
    const STEP: usize = 1;
    const IS_F32: bool = matches!(T::DTYPE, DType::F32);
    const MANY_ROWS: bool = true;
    type Shared<R: Register> = ();

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, _group: usize, _column: usize) {}

    #[inline(always)]
    unsafe fn load<R: Register>(&self, _i: usize, column: usize, _shared: ()) -> R {
        // SAFETY: the columns are within the array, as the caller promises.
        unsafe { T::load(self.as_ptr().add(column)) }
    }

    #[inline(always)]
    fn number(&self, _i: usize, column: usize) -> f32 {
        self[column].wide()
    }
}

/// `R` rows from `row` on and `C` registers of columns from `column` on.
///
/// # Safety
/// The processor must have the instructions of `V`; `left` and `sums` must have the rows, `right` at
/// most `DEPTH` entries, and the columns must be within [`COLUMNS`].
#[inline(always)]
// Loops over constants, so that `local` is unrolled into registers.
#[expect(clippy::needless_range_loop)]
unsafe fn add<V: Register, const R: usize, const C: usize, W: Right, const DEPTH: usize>(
    left: &[[f32; DEPTH]],
    right: &[W],
    sums: &mut [Columns],
    row: usize,
    column: usize,
) {
    debug_assert!(row + R <= left.len() && column + C * V::LANES <= COLUMNS);
    // SAFETY: as the caller promises.
    unsafe {
        let mut local = [[V::splat(0.0); C]; R];
        for r in 0..R {
            let from = sums.get_unchecked(row + r).as_ptr().add(column);
            for c in 0..C {
                local[r][c] = V::load_f32(from.add(c * V::LANES));
            }
        }
        let mut left = left.as_ptr().add(row).cast::<f32>();
        for right in right {
            for group in 0..W::INPUTS / W::GROUP {
                // Not with `std::array::from_fn`, which may stay a function without the instructions.
                let mut shared = [right.shared::<V>(group, column); C];
                for c in 1..C {
                    shared[c] = right.shared::<V>(group, column + c * V::LANES);
                }
                for step in 0..W::GROUP / W::STEP {
                    let first = group * W::GROUP + step * W::STEP;
                    // Written out, for the compiler does so only where little is to be done.
                    macro_rules! each {
                        ($($i:literal)*) => {
                            $(if $i < W::STEP {
                                let (i, left) = (first + $i, left.add(first + $i));
                                add_one::<V, R, C, W, DEPTH>(left, right, i, column, &shared, &mut local);
                            })*
                        };
                    }
                    each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                }
            }
            left = left.add(W::INPUTS);
        }
        for r in 0..R {
            let to = sums.get_unchecked_mut(row + r).as_mut_ptr().add(column);
            for c in 0..C {
                local[r][c].store(to.add(c * V::LANES));
            }
        }
    }
}

/// The products of one i: `left` stands at that of the first row.
///
/// # Safety
/// As for [`add`]; `i` must be below `INPUTS`, `shared` of its group.
#[inline(always)]
#[expect(clippy::needless_range_loop)]
unsafe fn add_one<V: Register, const R: usize, const C: usize, W: Right, const DEPTH: usize>(
    left: *const f32,
    right: &W,
    i: usize,
    column: usize,
    shared: &[W::Shared<V>; C],
    local: &mut [[V; C]; R],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut numbers = [right.load::<V>(i, column, shared[0]); C];
        for c in 1..C {
            numbers[c] = right.load::<V>(i, column + c * V::LANES, shared[c]);
        }
        for r in 0..R {
            let left = V::splat(*left.add(r * DEPTH));
            for c in 0..C {
                local[r][c] = local[r][c].plus_product(left, numbers[c]);
            }
        }
    }
}

/// The numbers of `right`, those of one i after the other.
///
/// # Panics
/// If `to` has not one place per i.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn widen<V: Register, W: Right>(right: &[W], to: &mut [Columns]) {
    assert_eq!(to.len(), right.len() * W::INPUTS);
    for (right, to) in right.iter().zip(to.chunks_exact_mut(W::INPUTS)) {
        for (group, to) in to.chunks_exact_mut(W::GROUP).enumerate() {
            for column in (0..COLUMNS).step_by(V::LANES) {
                // SAFETY: the columns are within `COLUMNS`, the group and its inputs within `INPUTS`.
                unsafe {
                    let shared = right.shared::<V>(group, column);
                    for (step, to) in to.chunks_exact_mut(W::STEP).enumerate() {
                        for i in 0..W::STEP {
                            let at = group * W::GROUP + step * W::STEP + i;
                            let number = right.load::<V>(at, column, shared);
                            number.store(to.get_unchecked_mut(i).as_mut_ptr().add(column));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{add, Columns, Right};

    /// All rows at once: 24 registers of sums, 2 of `right`, 1 of `left`.
    ///
    /// # Safety
    /// The processor must have AVX-512, and [`super::check`] must pass.
    #[inline(always)]
    pub(crate) unsafe fn with_32_registers_of_16<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        // SAFETY: the rows are those there are, the columns all 32.
        unsafe {
            match left.len() {
                1 => add::<__m512, 1, 2, W, DEPTH>(left, right, sums, 0, 0),
                2 => add::<__m512, 2, 2, W, DEPTH>(left, right, sums, 0, 0),
                3 => add::<__m512, 3, 2, W, DEPTH>(left, right, sums, 0, 0),
                4 => add::<__m512, 4, 2, W, DEPTH>(left, right, sums, 0, 0),
                _ if !W::MANY_ROWS => {}
                5 => add::<__m512, 5, 2, W, DEPTH>(left, right, sums, 0, 0),
                6 => add::<__m512, 6, 2, W, DEPTH>(left, right, sums, 0, 0),
                7 => add::<__m512, 7, 2, W, DEPTH>(left, right, sums, 0, 0),
                8 => add::<__m512, 8, 2, W, DEPTH>(left, right, sums, 0, 0),
                9 => add::<__m512, 9, 2, W, DEPTH>(left, right, sums, 0, 0),
                10 => add::<__m512, 10, 2, W, DEPTH>(left, right, sums, 0, 0),
                11 => add::<__m512, 11, 2, W, DEPTH>(left, right, sums, 0, 0),
                12 => add::<__m512, 12, 2, W, DEPTH>(left, right, sums, 0, 0),
                _ => {}
            }
        }
    }

    /// Six rows and half of the columns at a time: 12 registers of sums, 2 of `right`, 1 of `left`.
    ///
    /// # Safety
    /// The processor must have AVX2 and FMA, and [`super::check`] must pass.
    #[inline(always)]
    pub(crate) unsafe fn with_16_registers_of_8<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        for row in (0..left.len()).step_by(6) {
            for column in [0, 16] {
                // SAFETY: the rows are those that are left, the columns two of four registers.
                unsafe {
                    match left.len() - row {
                        1 => add::<__m256, 1, 2, W, DEPTH>(left, right, sums, row, column),
                        2 => add::<__m256, 2, 2, W, DEPTH>(left, right, sums, row, column),
                        3 => add::<__m256, 3, 2, W, DEPTH>(left, right, sums, row, column),
                        4 => add::<__m256, 4, 2, W, DEPTH>(left, right, sums, row, column),
                        _ if !W::MANY_ROWS => {}
                        5 => add::<__m256, 5, 2, W, DEPTH>(left, right, sums, row, column),
                        _ => add::<__m256, 6, 2, W, DEPTH>(left, right, sums, row, column),
                    }
                }
            }
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{with_16_registers_of_8, with_32_registers_of_16};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::float32x4_t;

    use super::{add, Columns, Right};

    /// Six rows and half of the columns at a time: 24 registers of sums, 4 of `right`, 1 of `left`.
    ///
    /// # Safety
    /// [`super::check`] must pass.
    #[inline(always)]
    pub(crate) unsafe fn with_32_registers_of_4<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        for row in (0..left.len()).step_by(6) {
            for column in [0, 16] {
                // SAFETY: the rows are those that are left, the columns four of eight registers.
                unsafe {
                    match left.len() - row {
                        1 => add::<float32x4_t, 1, 4, W, DEPTH>(left, right, sums, row, column),
                        2 => add::<float32x4_t, 2, 4, W, DEPTH>(left, right, sums, row, column),
                        3 => add::<float32x4_t, 3, 4, W, DEPTH>(left, right, sums, row, column),
                        4 => add::<float32x4_t, 4, 4, W, DEPTH>(left, right, sums, row, column),
                        _ if !W::MANY_ROWS => {}
                        5 => add::<float32x4_t, 5, 4, W, DEPTH>(left, right, sums, row, column),
                        _ => add::<float32x4_t, 6, 4, W, DEPTH>(left, right, sums, row, column),
                    }
                }
            }
        }
    }
}
#[cfg(target_arch = "aarch64")]
pub(crate) use arm::with_32_registers_of_4;

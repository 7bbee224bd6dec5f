//! The instruction set, chosen at run time: a build for any x86-64 uses AVX-512 or AVX2 where it
//! finds them.
//!
//! The compiler vectorises elementwise loops by itself once it may use the instructions. The one
//! computation it cannot be trusted with is [`Instructions::add_outer_products`], which both the
//! linear layers and attention are made of: see [`super::outer`].

use super::outer::{self, Columns, Right};

/// Numbers worked on side by side in elementwise sums.
pub(crate) const LANES: usize = 16;

/// One number per lane.
pub(crate) type Lanes = [f32; LANES];

/// The sum over the lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// How the processor computes. Results depend on nothing but whether multiply-adds are fused: all
/// that fuse give the same bits.
pub(crate) trait Instructions {
    /// `a * b + c`.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// `sums[row][column] += left[row][i] * right[i][column]`, one i after the other.
    ///
    /// # Panics
    /// If `left` and `sums` are not of one length, or it is above [`outer::ROWS`], or `right` is longer
    /// than `DEPTH`.
    fn add_outer_products<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    );

    /// The numbers of `right`, those of one i after the other.
    ///
    /// # Panics
    /// If `to` has not one place per i.
    fn widen<W: Right>(right: &[W], to: &mut [Columns]);
}

/// AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx512 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn add_outer_products<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        outer::check(left, right, sums);
        // SAFETY: lengths are checked; `run` enters here on processors with AVX-512 only.
        unsafe { outer::with_32_registers_of_16(left, right, sums) }
    }

    #[inline(always)]
    fn widen<W: Right>(right: &[W], to: &mut [Columns]) {
        // SAFETY: `run` enters here on processors with AVX-512 only.
        unsafe { outer::widen::<std::arch::x86_64::__m512, W>(right, to) }
    }
}

/// AVX2 with fused multiply-add and conversion of f16.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx2 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn add_outer_products<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        outer::check(left, right, sums);
        // SAFETY: lengths are checked; `run` enters here on processors with AVX2, FMA and F16C only.
        unsafe { outer::with_16_registers_of_8(left, right, sums) }
    }

    #[inline(always)]
    fn widen<W: Right>(right: &[W], to: &mut [Columns]) {
        // SAFETY: `run` enters here on processors with AVX2, FMA and F16C only.
        unsafe { outer::widen::<std::arch::x86_64::__m256, W>(right, to) }
    }
}

/// NEON, which every 64-bit ARM has.
#[cfg(target_arch = "aarch64")]
pub(crate) struct Neon;

#[cfg(target_arch = "aarch64")]
impl Instructions for Neon {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn add_outer_products<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        outer::check(left, right, sums);
        // SAFETY: lengths are checked, and NEON is part of every aarch64.
        unsafe { outer::with_32_registers_of_4(left, right, sums) }
    }

    #[inline(always)]
    fn widen<W: Right>(right: &[W], to: &mut [Columns]) {
        // SAFETY: NEON is part of every aarch64.
        unsafe { outer::widen::<std::arch::aarch64::float32x4_t, W>(right, to) }
    }
}

/// Any processor: rounded after the product and after the sum, for a fused multiply-add without an
/// instruction for it would be a library call per number.
pub(crate) struct Portable;

impl Instructions for Portable {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn add_outer_products<W: Right, const DEPTH: usize>(
        left: &[[f32; DEPTH]],
        right: &[W],
        sums: &mut [Columns],
    ) {
        outer::check(left, right, sums);
        for (left, sums) in left.iter().zip(sums) {
            for (left, right) in left.chunks(W::INPUTS).zip(right) {
                for (i, &left) in left.iter().enumerate() {
                    for (column, sum) in sums.iter_mut().enumerate() {
                        *sum += left * right.number(i, column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn widen<W: Right>(right: &[W], to: &mut [Columns]) {
        assert_eq!(to.len(), right.len() * W::INPUTS);
        for (right, to) in right.iter().zip(to.chunks_exact_mut(W::INPUTS)) {
            for (i, to) in to.iter_mut().enumerate() {
                *to = std::array::from_fn(|column| right.number(i, column));
            }
        }
    }
}

/// A computation to be compiled once per instruction set. `run` and all it calls must be
/// `#[inline(always)]`, or those parts keep the baseline's instructions.
pub(crate) trait Kernel {
    type Output;

    fn run<I: Instructions>(self) -> Self::Output;
}

/// Runs `kernel` with the best instructions this processor has.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has what `with_avx512` needs.
            return unsafe { with_avx512(kernel) };
        }
        if has_avx2() {
            // SAFETY: the processor has what `with_avx2` needs.
            return unsafe { with_avx2(kernel) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    return kernel.run::<Neon>();
    #[cfg(not(target_arch = "aarch64"))]
    kernel.run::<Portable>()
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && has_avx2()
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::{bf16, f16};

    use super::super::outer::{COLUMNS, ROWS};
    use super::super::q4k_q5k::{Q4K, Q5K};
    use super::super::q6k::Q6K;
    use super::super::q8::Q8;
    use super::super::{Element, Quantized};
    use super::*;

    const DEPTH: usize = 600;

    /// Between -1 and 1.
    fn number(at: usize) -> f32 {
        ((at * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0
    }

    /// Sums of outer products of fixed numbers of `rows` rows and `right`, on top of others.
    struct Sums<'a, W> {
        rows: usize,
        right: &'a [W],
    }

    impl<W: Right> Kernel for Sums<'_, W> {
        type Output = Vec<Columns>;

        #[inline(always)]
        fn run<I: Instructions>(self) -> Vec<Columns> {
            let left = |row| std::array::from_fn(|i| number(row * 31 + i) / 16.0);
            let left: Vec<[f32; DEPTH]> = (0..self.rows).map(left).collect();
            let mut sums: Vec<Columns> = (0..self.rows).map(|row| [row as f32; COLUMNS]).collect();
            I::add_outer_products(&left, self.right, &mut sums);
            sums
        }
    }

    fn check<W: Right>(right: &[W]) {
        for rows in 1..=ROWS {
            let sums = || Sums { rows, right };
            let portable = sums().run::<Portable>();
            let mut fused = Vec::new();
            if has_avx2() {
                // SAFETY: just asked.
                fused.push(unsafe { with_avx2(sums()) });
            }
            if has_avx512() {
                // SAFETY: just asked.
                fused.push(unsafe { with_avx512(sums()) });
            }
            for sums in &fused {
                assert_eq!(sums, &fused[0], "fused multiply-adds differ in bits, {rows} rows");
                let numbers = sums.as_flattened().iter().zip(portable.as_flattened());
                for (fused, separate) in numbers {
                    assert!((fused - separate).abs() < 1e-5, "{fused} {separate}, {rows} rows");
                }
            }
        }
    }

    fn check_floats<T: Element>() {
        let right = |i: usize| std::array::from_fn(|column| T::narrow(number(i * 57 + column + 9)));
        check::<[T; COLUMNS]>(&(0..36).map(right).collect::<Vec<_>>());
    }

    /// Weights of any bytes, but for scales below 1/4096: they stand at the start or at the end.
    fn check_quantized<W: Quantized>() {
        let block = |piece: usize, column: usize| {
            let byte = |at| (number((piece * COLUMNS + column) * 577 + at) * 128.0) as i8 as u8;
            let mut block: Vec<u8> = (0..W::BYTES).map(byte).collect();
            for upper_byte in [1, 3, W::BYTES - 1] {
                block[upper_byte] = block[upper_byte] & 0x80 | 0x0b;
            }
            block
        };
        let mut right = vec![W::ZERO; DEPTH / W::INPUTS];
        for (piece, right) in right.iter_mut().enumerate() {
            for column in 0..COLUMNS {
                right.put(column, &block(piece, column));
            }
        }
        check(&right);
    }

    #[test]
    fn every_instruction_set_adds_the_same_products() {
        check_floats::<f32>();
        check_floats::<bf16>();
        check_floats::<f16>();
        check_quantized::<Q8>();
        check_quantized::<Q4K>();
        check_quantized::<Q5K>();
        check_quantized::<Q6K>();
    }
}

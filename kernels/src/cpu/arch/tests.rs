use half::{bf16, f16};

use super::*;
use crate::cpu::gemm::{MR, NR};
use crate::cpu::quant::{Q4K, Q5K, Q6K, Q8_0};
use crate::cpu::{Element, Quantized};

const DEPTH: usize = 600;

/// Between -1 and 1.
pub(super) fn number(index: usize) -> f32 {
    ((index * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0
}

/// One call of the micro-kernel with `rows` fixed rows of lhs, on accumulators that are not zero.
struct OneTile<'a, W> {
    rows: usize,
    rhs: &'a [W],
}

impl<W: PackedRhs> IsaKernel for OneTile<'_, W> {
    type Output = Vec<NrVector>;

    #[inline(always)]
    fn run<I: Isa>(self) -> Vec<NrVector> {
        let lhs = |row| std::array::from_fn(|depth| number(row * 31 + depth) / 16.0);
        let lhs: Vec<[f32; DEPTH]> = (0..self.rows).map(lhs).collect();
        let mut acc: Vec<NrVector> = (0..self.rows).map(|row| [row as f32; NR]).collect();
        I::micro_kernel(&lhs, self.rhs, &mut acc);
        acc
    }
}

fn check<W: PackedRhs>(rhs: &[W]) {
    for rows in 1..=MR {
        let tile = || OneTile { rows, rhs };
        let portable = tile().run::<Portable>();
        let mut fused = Vec::new();
        if avx2::is_available() {
            // SAFETY: checked on the line above.
            fused.push(unsafe { avx2::run(tile()) });
        }
        if avx512::is_available() {
            // SAFETY: checked on the line above.
            fused.push(unsafe { avx512::run(tile()) });
        }
        for acc in &fused {
            assert_eq!(acc, &fused[0], "fused multiply-adds differ in bits, {rows} rows");
            let pairs = acc.as_flattened().iter().zip(portable.as_flattened());
            for (fused, separate) in pairs {
                assert!((fused - separate).abs() < 1e-5, "{fused} {separate}, {rows} rows");
            }
        }
    }
}

fn check_floats<T: Element>() {
    let rhs =
        |depth: usize| std::array::from_fn(|column| T::narrow(number(depth * 57 + column + 9)));
    check::<[T; NR]>(&(0..36).map(rhs).collect::<Vec<_>>());
}

/// Arbitrary bytes, except that scales stay below 1/4096. Scales are at the start or the end of a quant block.
fn check_quantized<W: Quantized>() {
    let quant_block = |index: usize, column: usize| {
        let byte = |at| (number((index * NR + column) * 577 + at) * 128.0) as i8 as u8;
        let mut bytes: Vec<u8> = (0..W::BYTES).map(byte).collect();
        for upper_byte in [1, 3, W::BYTES - 1] {
            bytes[upper_byte] = bytes[upper_byte] & 0x80 | 0x0b;
        }
        bytes
    };
    let mut rhs = vec![W::ZERO; DEPTH / W::DEPTH];
    for (index, rhs) in rhs.iter_mut().enumerate() {
        for column in 0..NR {
            rhs.insert(column, &quant_block(index, column));
        }
    }
    check(&rhs);
}

#[test]
fn all_instruction_sets_agree() {
    check_floats::<f32>();
    check_floats::<bf16>();
    check_floats::<f16>();
    check_quantized::<Q8_0>();
    check_quantized::<Q4K>();
    check_quantized::<Q5K>();
    check_quantized::<Q6K>();
}

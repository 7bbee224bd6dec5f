//! Linear layers of several chains.

use candle_core::{DType, Result, Tensor};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, ChainRows, ChainWeights, MatmulPrecision,
};

use super::{assert_close, in_f32, on_device, random, DTYPES};

const WIDTHS: [usize; 3] = [64, 32, 96];
/// The last is not a multiple of 8, so that the padding of outputs is tested.
const OUTPUTS: [usize; 3] = [128, 40, 20];

/// Many rows, the later chains on some only; few rows, as in decoding.
#[test]
fn plain_added_and_gated() -> Result<()> {
    let many = [(0..150).collect(), vec![3, 7, 8, 149], vec![8, 149]];
    let few = [(0..6).collect(), vec![1, 4, 5], vec![5]];
    for dtype in DTYPES {
        for rows in [&many, &few] {
            check(rows, dtype)?;
        }
    }
    Ok(())
}

fn check(rows: &[Vec<usize>; 3], dtype: DType) -> Result<()> {
    let per_row = |widths: [usize; 3]| -> Result<Vec<Tensor>> {
        let shapes = rows.iter().zip(widths);
        shapes.map(|(rows, width)| random(&[rows.len(), width], dtype)).collect()
    };
    let (x, residual) = (per_row(WIDTHS)?, per_row(OUTPUTS)?);
    let (gate, up) = (matrices(dtype)?, matrices(dtype)?);
    let rows = ChainRows::new(rows)?;
    let run = |x: &[Tensor], residual: &[Tensor], gate: &ChainWeights, up: &ChainWeights| {
        let plain = chain_linear(x, &rows, &[gate])?.remove(0);
        Ok([plain, chain_linear_add(x, &rows, gate, residual)?, chain_gated(x, &rows, gate, up)?])
            as Result<[Vec<Tensor>; 3]>
    };
    let on_gpu = [&gate, &up].map(|matrices| pack(matrices, on_device));
    let on_cpu = [&gate, &up].map(|matrices| pack(matrices, in_f32));
    let [gate, up] = on_gpu;
    let found = run(&on_device(&x)?, &on_device(&residual)?, &gate?, &up?)?;
    let [gate, up] = on_cpu;
    let expected = run(&in_f32(&x)?, &in_f32(&residual)?, &gate?, &up?)?;
    for (what, (found, expected)) in
        ["plain", "added", "gated"].iter().zip(found.iter().zip(&expected))
    {
        for (chain, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(found, expected, &format!("{what}, chain {}", chain + 1))?;
        }
    }
    Ok(())
}

/// Per chain W_i and b_i.
fn matrices(dtype: DType) -> Result<Vec<[Tensor; 2]>> {
    let matrix = |chain: usize| {
        let inputs: usize = WIDTHS[..=chain].iter().sum();
        let weight = (random(&[OUTPUTS[chain], inputs], dtype)? * (inputs as f64).powf(-0.5))?;
        Ok([weight, random(&[OUTPUTS[chain]], dtype)?])
    };
    (0..WIDTHS.len()).map(matrix).collect()
}

fn pack(
    matrices: &[[Tensor; 2]],
    place: fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<ChainWeights> {
    let chains = matrices.iter().map(|matrix| {
        let mut placed = place(matrix)?;
        let bias = placed.pop();
        Ok((placed.remove(0), bias))
    });
    ChainWeights::pack_floats(&chains.collect::<Result<Vec<_>>>()?, MatmulPrecision::F32)
}

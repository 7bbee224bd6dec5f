//! The linear layers against sums in f64, and the independence of a row's bits from other rows.

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, with_threads, ChainRows, ChainWeights,
    MatmulPrecision, Unpacked,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::reference::numbers;

const WIDTHS: [usize; 3] = [70, 200, 40];
const OUTPUTS: [usize; 3] = [33, 64, 5];

pub(crate) fn random(rng: &mut StdRng, dims: &[usize], dtype: DType) -> Result<Tensor> {
    let count = dims.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| rng.random_range(-1f32..1.)).collect();
    Tensor::from_vec(numbers, dims, &Device::Cpu)?.to_dtype(dtype)
}

/// W_i of `[outputs[i], widths[0] + .. + widths[i]]`, and b_i.
fn matrices(
    rng: &mut StdRng,
    outputs: &[usize],
    dtype: DType,
    bias: bool,
) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    let mut inputs = 0;
    let matrices = outputs.iter().zip(WIDTHS).map(|(&outputs, width)| {
        inputs += width;
        let weight = random(rng, &[outputs, inputs], dtype)?;
        Ok((weight, bias.then(|| random(rng, &[outputs], dtype)).transpose()?))
    });
    matrices.collect()
}

/// x of chain i has the rows `rows[i]`.
fn x(rng: &mut StdRng, rows: &[Vec<usize>]) -> Result<Vec<Tensor>> {
    let x = rows.iter().zip(WIDTHS);
    x.map(|(rows, width)| random(rng, &[rows.len(), width], DType::F32)).collect()
}

/// The formula: `[rows of chain, outputs]`.
pub(crate) fn expected(
    x: &[Tensor],
    rows: &[Vec<usize>],
    (weight, bias): &(Tensor, Option<Tensor>),
    chain: usize,
) -> Result<Vec<f64>> {
    let weight = weight.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let bias = bias.as_ref().map(numbers).transpose()?;
    let x = x.iter().map(Tensor::to_vec2::<f32>).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::new();
    for row in &rows[chain] {
        let inputs = (0..=chain).flat_map(|earlier| {
            let index = rows[earlier].binary_search(row).unwrap();
            x[earlier][index].clone()
        });
        let inputs: Vec<f32> = inputs.collect();
        for (output, weight) in weight.iter().enumerate() {
            let products = weight.iter().zip(&inputs).map(|(&w, &x)| f64::from(w) * f64::from(x));
            let bias = bias.as_ref().map_or(0., |bias| f64::from(bias[output]));
            out.push(products.sum::<f64>() + bias);
        }
    }
    Ok(out)
}

pub(crate) fn assert_close(found: &Tensor, expected: &[f64], what: &str) -> Result<()> {
    let found = numbers(found)?;
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 2e-5, "{what}: {found}, not {expected}");
    }
    Ok(())
}

/// Rows of a prompt. The later chains have fewer, and the last two have the same.
pub(crate) fn ragged() -> Vec<Vec<usize>> {
    let later: Vec<usize> = (0..40).filter(|row| row % 3 == 1).collect();
    vec![(0..40).collect(), later.clone(), later]
}

#[test]
fn every_chain_reads_the_earlier_chains_at_its_own_rows() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for rows in [ragged(), vec![vec![3]; 3], vec![vec![0, 1], vec![1], vec![]]] {
            for bias in [false, true] {
                let mut rng = StdRng::seed_from_u64(5);
                let x = x(&mut rng, &rows)?;
                let all = matrices(&mut rng, &OUTPUTS, dtype, bias)?;
                // Like the keys of CoLM-Air: only one chain has an output.
                let first = matrices(&mut rng, &[100], dtype, bias)?;
                let layers = [
                    ChainWeights::pack_floats(&all, MatmulPrecision::F32)?,
                    ChainWeights::pack_floats(&first, MatmulPrecision::F32)?,
                ];
                let found =
                    chain_linear(&x, &ChainRows::new(&rows)?, &layers.each_ref().map(|w| w))?;
                assert_eq!((found[0].len(), found[1].len()), (3, 1));
                for (chain, matrix) in all.iter().enumerate() {
                    let what = format!("{dtype:?}, bias {bias}, chain {}", chain + 1);
                    assert_close(&found[0][chain], &expected(&x, &rows, matrix, chain)?, &what)?;
                }
                assert_close(&found[1][0], &expected(&x, &rows, &first[0], 0)?, "chain 1 alone")?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_model_of_fewer_chains_reads_the_first_weights() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(6);
    let rows = vec![vec![0, 1, 2]; 2];
    let x = x(&mut rng, &rows)?;
    let matrices = matrices(&mut rng, &OUTPUTS, DType::F32, false)?;
    let weights = ChainWeights::pack_floats(&matrices, MatmulPrecision::F32)?;
    let found = chain_linear(&x, &ChainRows::same(2, 3), &[&weights])?.remove(0);
    assert_eq!(found.len(), 2);
    assert_close(&found[1], &expected(&x, &rows, &matrices[1], 1)?, "chain 2")
}

#[test]
fn the_residual_is_added() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(7);
    let rows = ragged();
    let x = x(&mut rng, &rows)?;
    let matrices = matrices(&mut rng, &OUTPUTS, DType::BF16, true)?;
    let residual = rows.iter().zip(OUTPUTS);
    let residual = residual.map(|(rows, width)| random(&mut rng, &[rows.len(), width], DType::F32));
    let residual = residual.collect::<Result<Vec<_>>>()?;
    let weights = ChainWeights::pack_floats(&matrices, MatmulPrecision::F32)?;
    let found = chain_linear_add(&x, &ChainRows::new(&rows)?, &weights, &residual)?;
    for (chain, matrix) in matrices.iter().enumerate() {
        let mut expected = expected(&x, &rows, matrix, chain)?;
        for (number, residual) in expected.iter_mut().zip(numbers(&residual[chain])?) {
            *number += f64::from(residual);
        }
        assert_close(&found[chain], &expected, "residual")?;
    }
    Ok(())
}

#[test]
fn gated_layers() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(8);
    let rows = ragged();
    let x = x(&mut rng, &rows)?;
    let gate = matrices(&mut rng, &OUTPUTS, DType::F16, true)?;
    let up = matrices(&mut rng, &OUTPUTS, DType::F16, true)?;
    let packed = [
        ChainWeights::pack_floats(&gate, MatmulPrecision::F32)?,
        ChainWeights::pack_floats(&up, MatmulPrecision::F32)?,
    ];
    let found = chain_gated(&x, &ChainRows::new(&rows)?, &packed[0], &packed[1])?;
    for chain in 0..3 {
        let gates = expected(&x, &rows, &gate[chain], chain)?;
        let ups = expected(&x, &rows, &up[chain], chain)?;
        let gated: Vec<f64> =
            gates.iter().zip(ups).map(|(gate, up)| gate / (1. + (-gate).exp()) * up).collect();
        // The factors are up to 10 in size: 10 times the tolerance of both sums.
        let found = numbers(&found[chain])?;
        for (found, expected) in found.iter().zip(&gated) {
            assert!((f64::from(*found) - expected).abs() < 4e-4, "{found}, not {expected}");
        }
    }
    Ok(())
}

/// Also if the inputs of both are multiplied in one go and padded.
#[test]
fn a_chain_does_not_read_later_chains() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut rng = StdRng::seed_from_u64(11);
        let rows = vec![(0..20).collect(), (0..20).collect()];
        let mut x = x(&mut rng, &rows)?;
        let weights = ChainWeights::pack_floats(
            &matrices(&mut rng, &OUTPUTS[..2], dtype, false)?,
            MatmulPrecision::F32,
        )?;
        let alone = chain_linear(&x[..1], &ChainRows::same(1, 20), &[&weights])?[0][0].clone();
        x[1] = (x[1].ones_like()? * f64::INFINITY)?;
        let both = chain_linear(&x, &ChainRows::new(&rows)?, &[&weights])?;
        assert_eq!(numbers(&both[0][0])?, numbers(&alone)?, "{dtype:?}");
    }
    Ok(())
}

/// A bf16 weight is multiplied with all 24 bits of an activation.
#[test]
fn activations_are_not_rounded_to_the_dtype_of_the_weights() -> Result<()> {
    let one = Tensor::ones((1, 64), DType::BF16, &Device::Cpu)?;
    let weights = ChainWeights::pack_floats(&[(one, None)], MatmulPrecision::F32)?;
    let mut x = vec![0f32; 64];
    (x[3], x[40]) = (16_777_215., -16_777_214.);
    let x = [Tensor::from_vec(x, (1, 64), &Device::Cpu)?];
    let y = chain_linear(&x, &ChainRows::same(1, 1), &[&weights])?;
    assert_eq!(numbers(&y[0][0])?, [1.]);
    Ok(())
}

/// Large enough that prompts are split into several tasks and micro-panels. The larger one has more panels than AMX
/// multiplies in turn.
#[test]
fn a_row_does_not_depend_on_the_other_rows() -> Result<()> {
    let shapes = [(300, 600), (1700, 1500)];
    let dtypes = [DType::F32, DType::BF16, DType::F16];
    for ((outputs, inputs), dtype) in
        shapes.into_iter().flat_map(|shape| dtypes.map(|d| (shape, d)))
    {
        let mut rng = StdRng::seed_from_u64(9);
        let weight = random(&mut rng, &[outputs, inputs], dtype)?;
        let weights = ChainWeights::pack_floats(&[(weight, None)], MatmulPrecision::F32)?;
        let x = random(&mut rng, &[500, inputs], DType::F32)?;
        let all = with_threads(1, || {
            chain_linear(std::slice::from_ref(&x), &ChainRows::same(1, 500), &[&weights])
        })?;
        let all = all[0][0].to_vec2::<f32>()?;
        for (first, count) in [(0, 1), (499, 1), (7, 2), (190, 13), (5, 193), (3, 194), (100, 400)]
        {
            let part = [x.narrow(0, first, count)?];
            let part = chain_linear(&part, &ChainRows::same(1, count), &[&weights])?;
            let part = part[0][0].to_vec2::<f32>()?;
            assert_eq!(part, all[first..first + count], "{dtype:?}, {count} rows from {first}");
        }
        for threads in [2, 3] {
            let again = with_threads(threads, || {
                chain_linear(std::slice::from_ref(&x), &ChainRows::same(1, 500), &[&weights])
            })?;
            assert_eq!(again[0][0].to_vec2::<f32>()?, all, "{dtype:?}, {threads} threads");
        }
    }
    Ok(())
}

/// The first chain ends within a tile register of AMX.
#[test]
fn inputs_of_two_chains_are_those_of_one() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut rng = StdRng::seed_from_u64(12);
        let x = [
            random(&mut rng, &[200, 700], DType::F32)?,
            random(&mut rng, &[200, 810], DType::F32)?,
        ];
        let first = random(&mut rng, &[50, 700], dtype)?;
        let second = random(&mut rng, &[40, 1510], dtype)?;
        let weights = ChainWeights::pack_floats(
            &[(first, None), (second.clone(), None)],
            MatmulPrecision::F32,
        )?;
        let two = chain_linear(&x, &ChainRows::same(2, 200), &[&weights])?[0][1].clone();
        let weights = ChainWeights::pack_floats(&[(second, None)], MatmulPrecision::F32)?;
        let x = [Tensor::cat(&x, 1)?];
        let one = chain_linear(&x, &ChainRows::same(1, 200), &[&weights])?[0][0].clone();
        assert_eq!(numbers(&two)?, numbers(&one)?, "{dtype:?}");
    }
    Ok(())
}

#[test]
fn unpacking_inverts_packing() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut rng = StdRng::seed_from_u64(10);
        let matrices = matrices(&mut rng, &OUTPUTS, dtype, true)?;
        let weights = ChainWeights::pack_floats(&matrices, MatmulPrecision::F32)?;
        assert_eq!(weights.shapes(), [(33, 70), (64, 270), (5, 310)]);
        let Unpacked::Floats(unpacked) = weights.unpack()? else { panic!("not floats") };
        for ((weight, bias), (packed, packed_bias)) in unpacked.iter().zip(&matrices) {
            assert_eq!(weight.dtype(), dtype);
            assert_eq!(numbers(weight)?, numbers(packed)?);
            let biases = [bias, packed_bias].map(|bias| numbers(bias.as_ref().unwrap()).unwrap());
            assert_eq!(biases[0], biases[1]);
        }
        let rows = weights.rows(0, &[32, 0, 5])?.to_vec2::<f32>()?;
        let all = matrices[0].0.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        assert_eq!(rows, [all[32].clone(), all[0].clone(), all[5].clone()]);
        assert!(weights.rows(0, &[33]).is_err());
    }
    Ok(())
}

#[test]
fn errors_name_the_reason() -> Result<()> {
    let new = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu);
    let f32 = DType::F32;
    let packed = |dims: &[usize]| {
        ChainWeights::pack_floats(&[(new(dims, f32)?, None)], MatmulPrecision::F32)
    };
    let weights = packed(&[4, 8])?;
    let rows = ChainRows::same(1, 2);
    let cases = [
        (ChainWeights::pack_floats(&[], MatmulPrecision::F32).err(), "no chains"),
        (
            ChainWeights::pack_floats(&[(new(&[4, 8], DType::U8)?, None)], MatmulPrecision::F32)
                .err(),
            "U8",
        ),
        (
            ChainWeights::pack_floats(
                &[(new(&[4, 8], f32)?, None), (new(&[4, 6], f32)?, None)],
                MatmulPrecision::F32,
            )
            .err(),
            "at least the inputs of the chain before it",
        ),
        (
            ChainWeights::pack_floats(
                &[(new(&[4, 8], f32)?, Some(new(&[3], f32)?))],
                MatmulPrecision::F32,
            )
            .err(),
            "chain 1 has 4 outputs and a bias of another shape",
        ),
        (chain_linear(&[new(&[2, 7], f32)?], &rows, &[&weights]).err(), "chain 1 reads 8 inputs"),
        (
            chain_linear(&[new(&[3, 8], f32)?], &rows, &[&weights]).err(),
            "chain 1 has x [3, 8]; expected [its rows",
        ),
        (
            chain_linear(&[new(&[2, 8], DType::F16)?], &rows, &[&weights]).err(),
            "chain 1 has x of f16, not f32",
        ),
        (
            chain_linear_add(&[new(&[2, 8], f32)?], &rows, &weights, &[new(&[2, 3], f32)?]).err(),
            "chain 1 needs a residual of",
        ),
        (
            chain_gated(&[new(&[2, 8], f32)?], &rows, &weights, &packed(&[5, 8])?).err(),
            "the same shapes",
        ),
    ];
    for (error, reason) in cases {
        let error = error.expect(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    Ok(())
}

//! Products with activations rounded to bf16: those of activations that were rounded before. Bit for bit, except with bf16
//! and quantized weights on AVX512-BF16, which adds the products in another order and takes numbers below 2^-110 for zero.

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, instruction_set, ChainRows, ChainWeights,
    MatmulPrecision,
};
use rand::rngs::StdRng;
use rand::SeedableRng;

use crate::linear::{ragged, random};
use crate::quantized;
use crate::reference::numbers;

/// How weights are stored: as floats, and as each quantized type.
fn packed(
    weights: &[(Tensor, Option<Tensor>)],
    precision: MatmulPrecision,
) -> Result<Vec<(String, ChainWeights)>> {
    let mut packed = Vec::new();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let narrow = weights.iter().map(|(weight, _)| Ok((weight.to_dtype(dtype)?, None)));
        let narrow = narrow.collect::<Result<Vec<_>>>()?;
        packed.push((format!("{dtype:?}"), ChainWeights::pack_floats(&narrow, precision)?));
    }
    for dtype in quantized::DTYPES {
        packed.push((format!("{dtype:?}"), ChainWeights::quantize(weights, dtype, precision)?));
    }
    Ok(packed)
}

/// Every number rounded to bf16.
fn rounded(x: &[Tensor]) -> Result<Vec<Tensor>> {
    x.iter().map(|x| x.to_dtype(DType::BF16)?.to_dtype(DType::F32)).collect()
}

fn bits(tensors: &[Tensor]) -> Result<Vec<Vec<u32>>> {
    tensors.iter().map(quantized::bits).collect()
}

fn assert_same(found: &[Tensor], expected: &[Tensor], weights: &str, what: &str) -> Result<()> {
    let in_pairs = !["F32", "F16", "Q6K"].contains(&weights);
    if in_pairs && instruction_set() == "AVX-512 and AVX512-BF16" {
        for (found, expected) in found.iter().zip(expected) {
            let (found, expected) = (numbers(found)?, numbers(expected)?);
            let largest =
                expected.iter().fold(0.0, |largest: f32, number| largest.max(number.abs()));
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{what}: {found} {expected}");
            }
        }
    } else {
        assert_eq!(bits(found)?, bits(expected)?, "{weights}, {what}");
    }
    Ok(())
}

/// W_i `[outputs, in_<=i]` for chains of these widths.
fn weights(
    rng: &mut StdRng,
    widths: &[usize],
    outputs: usize,
) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    let inputs = widths.iter().scan(0, |inputs, width| {
        *inputs += width;
        Some(*inputs)
    });
    inputs.map(|inputs| Ok((random(rng, &[outputs, inputs], DType::F32)?, None))).collect()
}

#[test]
fn activations_are_rounded_to_bf16() -> Result<()> {
    const WIDTHS: [usize; 3] = [256, 512, 256];
    let mut rng = StdRng::seed_from_u64(40);
    let weights = weights(&mut rng, &WIDTHS, 70)?;
    let exact = packed(&weights, MatmulPrecision::F32)?;
    for ((name, exact), (_, low)) in exact.into_iter().zip(packed(&weights, MatmulPrecision::Bf16)?)
    {
        let same = (1..=3).map(|rows| vec![(0..rows).collect(); 3]);
        for rows in same.chain([ragged(), vec![(0..40).collect(); 3]]) {
            let x = rows.iter().zip(WIDTHS);
            let x = x.map(|(rows, width)| random(&mut rng, &[rows.len(), width], DType::F32));
            let x = x.collect::<Result<Vec<_>>>()?;
            let rows = ChainRows::new(&rows)?;
            let found = chain_linear(&x, &rows, &[&low])?.remove(0);
            let expected = chain_linear(&rounded(&x)?, &rows, &[&exact])?.remove(0);
            assert_same(&found, &expected, &name, "linear")?;
            let unrounded = chain_linear(&x, &rows, &[&exact])?.remove(0);
            assert_ne!(bits(&found)?, bits(&unrounded)?, "{name}");
            let added = chain_linear_add(&x, &rows, &low, &found)?;
            let expected = chain_linear_add(&rounded(&x)?, &rows, &exact, &found)?;
            assert_same(&added, &expected, &name, "residual")?;
            let gated = chain_gated(&x, &rows, &low, &low)?;
            let expected = chain_gated(&rounded(&x)?, &rows, &exact, &exact)?;
            assert_same(&gated, &expected, &name, "gated")?;
        }
    }
    Ok(())
}

/// Large enough that a prompt is split into several tasks.
#[test]
fn activations_of_large_products_are_rounded() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(41);
    let inputs = 2560;
    let weights = weights(&mut rng, &[inputs], 1000)?;
    let exact = packed(&weights, MatmulPrecision::F32)?;
    for ((name, exact), (_, low)) in exact.into_iter().zip(packed(&weights, MatmulPrecision::Bf16)?)
    {
        // The last row tile of 193 and 194 rows has one and two rows.
        for rows in [500, 193, 194] {
            let x = [random(&mut rng, &[rows, inputs], DType::F32)?];
            let chain_rows = ChainRows::same(1, rows);
            let found = chain_linear(&x, &chain_rows, &[&low])?.remove(0);
            let expected = chain_linear(&rounded(&x)?, &chain_rows, &[&exact])?.remove(0);
            assert_same(&found, &expected, &name, &format!("{rows} rows"))?;
        }
    }
    Ok(())
}

#[test]
fn rounded_products_do_not_depend_on_other_rows() -> Result<()> {
    const ROWS: usize = 70;
    let mut rng = StdRng::seed_from_u64(42);
    let weights = weights(&mut rng, &[768], 100)?;
    for (name, weights) in packed(&weights, MatmulPrecision::Bf16)? {
        let x = random(&mut rng, &[ROWS, 768], DType::F32)?;
        let product = |first, rows| -> Result<Vec<u32>> {
            let x = [x.narrow(0, first, rows)?];
            let y = chain_linear(&x, &ChainRows::same(1, rows), &[&weights])?.remove(0);
            quantized::bits(&y[0])
        };
        let all = product(0, ROWS)?;
        for rows in 1..=33 {
            let first = ROWS - rows;
            assert_eq!(product(first, rows)?, all[first * 100..], "{name}, {rows} rows");
        }
    }
    Ok(())
}

#[test]
fn layers_of_different_precisions_do_not_share_a_call() -> Result<()> {
    let one = |precision| {
        let weight = Tensor::ones((4, 8), DType::F32, &Device::Cpu)?;
        ChainWeights::pack_floats(&[(weight, None)], precision)
    };
    let (exact, low) = (one(MatmulPrecision::F32)?, one(MatmulPrecision::Bf16)?);
    assert!(!exact.has_same_format(&low));
    let x = [Tensor::ones((2, 8), DType::F32, &Device::Cpu)?];
    let error = chain_linear(&x, &ChainRows::same(1, 2), &[&exact, &low]).unwrap_err();
    assert!(error.to_string().contains("one precision"), "{error}");
    Ok(())
}

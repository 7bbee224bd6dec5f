//! Linear layers of quantized weights: their products equal those of the weights that ggml dequantizes.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, instruction_set, with_threads, ChainRows,
    ChainWeights, MatmulPrecision, Unpacked,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::linear::{assert_close, expected, ragged, random};
use crate::reference::numbers;

pub(crate) const DTYPES: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

const WIDTHS: [usize; 3] = [256, 512, 256];
const OUTPUTS: [usize; 3] = [70, 33, 5];

/// W_i of `[OUTPUTS[i], WIDTHS[0] + .. + WIDTHS[i]]`, scaled so that outputs are near 1.
fn blocks(rng: &mut StdRng, dtype: GgmlDType) -> Result<Vec<QTensor>> {
    let mut inputs = 0;
    let blocks = OUTPUTS.iter().zip(WIDTHS).map(|(&outputs, width)| {
        inputs += width;
        let weight = (random(rng, &[outputs, inputs], DType::F32)? / 16.)?;
        QTensor::quantize(&weight, dtype)
    });
    blocks.collect()
}

/// A matrix of random bytes, except that the f16 scales are finite.
fn random_bytes(rng: &mut StdRng, shape: (usize, usize), dtype: GgmlDType) -> Result<QTensor> {
    let scales: &[usize] = match dtype {
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => &[0],
        GgmlDType::Q6K => &[208],
        _ => &[0, 2],
    };
    let blocks = shape.0 * shape.1 / dtype.block_size();
    let mut bytes = Vec::new();
    for _ in 0..blocks {
        let start = bytes.len();
        bytes.extend((0..dtype.type_size()).map(|_| rng.random::<u8>()));
        for scale in scales {
            let number = half::f16::from_f32(rng.random_range(-2f32..2.)).to_le_bytes();
            bytes[start + scale..][..2].copy_from_slice(&number);
        }
    }
    let storage = QStorage::from_data(Cow::Borrowed(&bytes), &Device::Cpu, dtype)?;
    QTensor::new(storage, shape)
}

fn dequantized(blocks: &[QTensor]) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    blocks.iter().map(|block| Ok((block.dequantize(&Device::Cpu)?, None))).collect()
}

fn x(rng: &mut StdRng, rows: &[Vec<usize>]) -> Result<Vec<Tensor>> {
    let x = rows.iter().zip(WIDTHS);
    x.map(|(rows, width)| random(rng, &[rows.len(), width], DType::F32)).collect()
}

pub(crate) fn bits(x: &Tensor) -> Result<Vec<u32>> {
    Ok(numbers(x)?.into_iter().map(f32::to_bits).collect())
}

/// Every row count up to more than a register tile, and chains of different counts.
fn rows() -> impl Iterator<Item = Vec<Vec<usize>>> {
    let same = (1..=13).map(|rows| vec![(0..rows).collect(); 3]);
    same.chain([ragged(), vec![vec![0, 1], vec![1], vec![]]])
}

/// Close to sums in f64, and bit-identical to products with f32 weights, except on AMX, which multiplies by
/// the scales last; q6k does not use it.
#[test]
fn products_are_those_of_the_dequantized_weights() -> Result<()> {
    for dtype in DTYPES {
        let mut rng = StdRng::seed_from_u64(20);
        let blocks = blocks(&mut rng, dtype)?;
        let weights = ChainWeights::pack_quantized(&blocks, &[], MatmulPrecision::F32)?;
        let floats = dequantized(&blocks)?;
        let packed_floats = ChainWeights::pack_floats(&floats, MatmulPrecision::F32)?;
        for rows in rows() {
            let x = x(&mut rng, &rows)?;
            let chain_rows = ChainRows::new(&rows)?;
            let found = chain_linear(&x, &chain_rows, &[&weights])?.remove(0);
            let exactly = chain_linear(&x, &chain_rows, &[&packed_floats])?.remove(0);
            for (chain, floats) in floats.iter().enumerate() {
                let what = format!("{dtype:?}, {} rows, chain {}", rows[chain].len(), chain + 1);
                assert_close(&found[chain], &expected(&x, &rows, floats, chain)?, &what)?;
                if dtype == GgmlDType::Q6K || !instruction_set().contains("AMX") {
                    assert_eq!(bits(&found[chain])?, bits(&exactly[chain])?, "{what}");
                }
            }
        }
    }
    Ok(())
}

/// Rows with a single nonzero input select the weights, both one row at a time and all in one prompt.
#[test]
fn random_bytes_are_dequantized_as_ggml_does() -> Result<()> {
    for dtype in DTYPES {
        let mut rng = StdRng::seed_from_u64(21);
        let block = random_bytes(&mut rng, (40, 512), dtype)?;
        let expected = numbers(&block.dequantize(&Device::Cpu)?.t()?)?;
        let weights = ChainWeights::pack_quantized(&[block], &[], MatmulPrecision::F32)?;
        let x = Tensor::eye(512, DType::F32, &Device::Cpu)?;
        let all = chain_linear(std::slice::from_ref(&x), &ChainRows::same(1, 512), &[&weights])?;
        assert_eq!(numbers(&all[0][0])?, expected, "{dtype:?}");
        for (row, expected) in expected.chunks(40).enumerate() {
            let row = [x.narrow(0, row, 1)?];
            let found = chain_linear(&row, &ChainRows::same(1, 1), &[&weights])?;
            assert_eq!(numbers(&found[0][0])?, expected, "{dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn gated_layers_and_residuals() -> Result<()> {
    for dtype in DTYPES {
        let mut rng = StdRng::seed_from_u64(22);
        let [gate, up] = [blocks(&mut rng, dtype)?, blocks(&mut rng, dtype)?];
        let packed = [&gate, &up]
            .map(|blocks| ChainWeights::pack_quantized(blocks, &[], MatmulPrecision::F32));
        let [packed_gate, packed_up] = packed;
        let (packed_gate, packed_up) = (packed_gate?, packed_up?);
        let [gate, up] = [dequantized(&gate)?, dequantized(&up)?];
        let rows = ragged();
        let x = x(&mut rng, &rows)?;
        let chain_rows = ChainRows::new(&rows)?;
        let residual = rows.iter().zip(OUTPUTS);
        let residual =
            residual.map(|(rows, width)| random(&mut rng, &[rows.len(), width], DType::F32));
        let residual = residual.collect::<Result<Vec<_>>>()?;
        let gated = chain_gated(&x, &chain_rows, &packed_gate, &packed_up)?;
        let added = chain_linear_add(&x, &chain_rows, &packed_up, &residual)?;
        for chain in 0..3 {
            let gates = expected(&x, &rows, &gate[chain], chain)?;
            let ups = expected(&x, &rows, &up[chain], chain)?;
            let silu_up = gates.iter().zip(&ups).map(|(gate, up)| gate / (1. + (-gate).exp()) * up);
            let silu_up: Vec<f64> = silu_up.collect();
            assert_close(&gated[chain], &silu_up, &format!("{dtype:?}, gated"))?;
            let sums = ups.iter().zip(numbers(&residual[chain])?);
            let sums: Vec<f64> = sums.map(|(up, residual)| up + f64::from(residual)).collect();
            assert_close(&added[chain], &sums, &format!("{dtype:?}, residual"))?;
        }
    }
    Ok(())
}

/// `[rows, width]` numbers between 1e-44 and 1, the last rows all below 1e-36.
fn of_all_sizes(rng: &mut StdRng, rows: usize, width: usize) -> Result<Tensor> {
    let number = |index: usize| {
        let largest = if index < (rows - 5) * width { 0. } else { -36. };
        rng.random_range(-1f32..1.) * 10f32.powf(rng.random_range(-44f32..largest))
    };
    Tensor::from_iter((0..rows * width).map(number), &Device::Cpu)?.reshape((rows, width))
}

/// Large enough that prompts are split into several tasks and micro-panels. The larger one has more panels than AMX
/// multiplies in turn, and the last block of inputs of the smallest one is not full.
#[test]
fn a_row_does_not_depend_on_the_other_rows() -> Result<()> {
    let shapes = [(300, 768), (1700, 1536), (70, 800)];
    let cases = shapes.into_iter().flat_map(|shape| DTYPES.map(|dtype| (shape, dtype)));
    for ((outputs, inputs), dtype) in
        cases.filter(|&((_, inputs), dtype)| usize::is_multiple_of(inputs, dtype.block_size()))
    {
        let mut rng = StdRng::seed_from_u64(23);
        let weight = QTensor::quantize(&random(&mut rng, &[outputs, inputs], DType::F32)?, dtype)?;
        let weights = ChainWeights::pack_quantized(&[weight], &[], MatmulPrecision::F32)?;
        let x = of_all_sizes(&mut rng, 500, inputs)?;
        let all = with_threads(1, || {
            chain_linear(std::slice::from_ref(&x), &ChainRows::same(1, 500), &[&weights])
        })?;
        for (first, count) in [
            (0, 1),
            (499, 1),
            (7, 2),
            (60, 3),
            (300, 4),
            (90, 5),
            (190, 13),
            (31, 24),
            (100, 48),
            (5, 193),
            (3, 194),
            (100, 400),
        ] {
            let part = [x.narrow(0, first, count)?];
            let part = chain_linear(&part, &ChainRows::same(1, count), &[&weights])?;
            let within_all = bits(&all[0][0].narrow(0, first, count)?)?;
            assert_eq!(bits(&part[0][0])?, within_all, "{dtype:?}, {count} rows from {first}");
        }
    }
    Ok(())
}

#[test]
fn unpacking_inverts_packing() -> Result<()> {
    for dtype in DTYPES {
        let mut rng = StdRng::seed_from_u64(24);
        let blocks = [(70, 256), (32, 512), (1, 1024)];
        let blocks = blocks.map(|shape| random_bytes(&mut rng, shape, dtype).unwrap());
        let weights = ChainWeights::pack_quantized(&blocks, &[], MatmulPrecision::F32)?;
        assert_eq!(weights.shapes(), [(70, 256), (32, 512), (1, 1024)]);
        let Unpacked::Quantized(unpacked) = weights.unpack()? else { panic!("not quantized") };
        assert_eq!(unpacked.len(), blocks.len());
        for ((unpacked, _), block) in unpacked.iter().zip(&blocks) {
            assert_eq!((unpacked.shape(), unpacked.dtype()), (block.shape(), dtype));
            assert_eq!(unpacked.data()?, block.data()?, "{dtype:?}");
        }
    }
    Ok(())
}

/// Panel by panel, from every dtype, and with biases.
#[test]
fn quantizing_gives_what_candle_quantizes() -> Result<()> {
    for (dtype, float) in
        DTYPES.into_iter().zip([DType::F32, DType::BF16, DType::F16].into_iter().cycle())
    {
        let mut rng = StdRng::seed_from_u64(25);
        let mut floats = Vec::new();
        let (mut blocks, mut biases) = (Vec::new(), Vec::new());
        for (outputs, inputs) in [(70, 256), (32, 512), (1, 1024)] {
            let weight = random(&mut rng, &[outputs, inputs], float)?;
            let bias = random(&mut rng, &[outputs], float)?;
            blocks.push(QTensor::quantize(&weight, dtype)?);
            biases.push(bias.clone());
            floats.push((weight, Some(bias)));
        }
        let found = ChainWeights::quantize(&floats, dtype, MatmulPrecision::F32)?;
        let Unpacked::Quantized(unpacked) = found.unpack()? else { panic!("not quantized") };
        for ((weight, bias), (block, expected)) in unpacked.iter().zip(blocks.iter().zip(&biases)) {
            assert_eq!(weight.data()?, block.data()?, "{dtype:?}");
            let expected = numbers(&expected.to_dtype(DType::F32)?)?;
            assert_eq!(numbers(bias.as_ref().unwrap())?, expected);
        }
        // Products add the biases.
        let x = [random(&mut rng, &[3, 1024], DType::F32)?];
        let last = ChainWeights::quantize(&floats[2..], dtype, MatmulPrecision::F32)?;
        let without = ChainWeights::pack_quantized(&blocks[2..], &[], MatmulPrecision::F32)?;
        let product = |weights: &ChainWeights| -> Result<_> {
            numbers(&chain_linear(&x, &ChainRows::same(1, 3), &[weights])?[0][0])
        };
        let bias = numbers(&biases[2].to_dtype(DType::F32)?)?[0];
        for (with, without) in product(&last)?.iter().zip(product(&without)?) {
            assert_eq!(*with, without + bias, "{dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn errors_name_the_reason() -> Result<()> {
    let zeros = |shape: (usize, usize), dtype| {
        QTensor::quantize(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?, dtype)
    };
    let x = [Tensor::zeros((2, 256), DType::F32, &Device::Cpu)?];
    let packed = |dtype| -> Result<_> {
        ChainWeights::pack_quantized(&[zeros((4, 256), dtype)?], &[], MatmulPrecision::F32)
    };
    let floats = ChainWeights::pack_floats(
        &[(Tensor::zeros((4, 256), DType::F32, &Device::Cpu)?, None)],
        MatmulPrecision::F32,
    )?;
    let (q4k, q8_0) = (packed(GgmlDType::Q4K)?, packed(GgmlDType::Q8_0)?);
    let together =
        |other: &ChainWeights| chain_linear(&x, &ChainRows::same(1, 2), &[&q4k, other]).err();
    let mixed = [zeros((4, 256), GgmlDType::Q4K)?, zeros((4, 256), GgmlDType::Q8_0)?];
    let narrower = [zeros((4, 512), GgmlDType::Q4K)?, zeros((4, 256), GgmlDType::Q4K)?];
    let bytes = zeros((3, 256), GgmlDType::Q4K)?.data()?.to_vec();
    let storage = QStorage::from_data(Cow::Borrowed(&bytes), &Device::Cpu, GgmlDType::Q4K)?;
    let short = QTensor::new(storage, (4, 256))?;
    let cases = [
        (ChainWeights::pack_quantized(&[], &[], MatmulPrecision::F32).err(), "no chains"),
        (packed(GgmlDType::Q2K).err(), "Q2K are not supported: Q4_0"),
        (
            ChainWeights::pack_quantized(&mixed, &[], MatmulPrecision::F32).err(),
            "weights of Q4K and of Q8_0 in one layer",
        ),
        (
            ChainWeights::pack_quantized(&narrower, &[], MatmulPrecision::F32).err(),
            "at least the inputs of the chain before it",
        ),
        (
            ChainWeights::pack_quantized(&[short], &[], MatmulPrecision::F32).err(),
            "of 432 bytes is not a matrix of Q4K",
        ),
        (
            ChainWeights::quantize(
                &[(Tensor::zeros((4, 100), DType::F32, &Device::Cpu)?, None)],
                GgmlDType::Q8_0,
                MatmulPrecision::F32,
            )
            .err(),
            "100 inputs are not a multiple of the 32",
        ),
        (
            ChainWeights::pack_quantized(
                &mixed[..1],
                &[Tensor::zeros(3, DType::F32, &Device::Cpu)?],
                MatmulPrecision::F32,
            )
            .err(),
            "chain 1 has 4 outputs and a bias of another shape, [3]",
        ),
        (together(&q8_0), "of one format"),
        (together(&floats), "of one format"),
    ];
    for (error, reason) in cases {
        let error = error.expect(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    Ok(())
}

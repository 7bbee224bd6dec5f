//! The functions of `colm-cuda` on candle tensors, against those of `colm-kernels` on the CPU, on the same step.

// Links the launchers.
extern crate colm_kernels_twin as _;

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use colm_cuda::{AttentionPlan, ChainHeads, LinearInput, LinearProduct, NormChain, RopeTable};
use colm_kernels::{
    BlockTables, ChainQueries, ChainRows, ChainWeights, KvBlocks, QueryRange, Rope, Slots,
};

const CPU: Device = Device::Cpu;

fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, &CPU)?.to_dtype(dtype)
}

/// Both round to the dtype once at the end, but sum in different orders.
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    let dtype = found.dtype();
    let (found, expected) = (found.to_dtype(DType::F32)?, expected.to_dtype(DType::F32)?);
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    let error = (norm(&(&found - &expected)?)? / norm(&expected)?).sqrt();
    let bound = if dtype == DType::BF16 { 1e-2 } else { 2e-3 };
    assert!(error <= bound, "{what} in {dtype:?}: relative error {error}");
    Ok(())
}

fn assert_error<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "`{expected}` is missing in: {error}");
}

/// Three chains, the upper two on some rows only, with biases: plain, added and gated.
#[test]
fn linear_layers_on_ragged_rows() -> Result<()> {
    let rows = [(0..40).collect(), vec![3, 7, 8, 39], vec![8, 39]];
    let widths = [16, 8, 24];
    let outputs = [32, 8, 16];
    for dtype in [DType::BF16, DType::F16] {
        let x: Vec<Tensor> = rows
            .iter()
            .zip(widths)
            .map(|(rows, width)| random(&[rows.len(), width], dtype))
            .collect::<Result<_>>()?;
        let blocks = || -> Result<Vec<(Tensor, Option<Tensor>)>> {
            let block = |chain: usize| {
                let inputs = widths[..=chain].iter().sum();
                Ok((
                    random(&[outputs[chain], inputs], dtype)?,
                    Some(random(&[outputs[chain]], dtype)?),
                ))
            };
            (0..3).map(block).collect()
        };
        let (gate, up) = (blocks()?, blocks()?);
        let residual: Vec<Tensor> = rows
            .iter()
            .zip(outputs)
            .map(|(rows, outputs)| random(&[rows.len(), outputs], dtype))
            .collect::<Result<_>>()?;

        let row_maps = [
            None,
            Some(Tensor::new(&[[3u32, 7, 8, 39]], &CPU)?),
            Some(Tensor::new(&[[8u32, 39], [2, 3]], &CPU)?),
        ];
        let inputs: Vec<_> = x
            .iter()
            .zip(&row_maps)
            .map(|(x, row_map)| LinearInput { x, row_map: row_map.as_ref() })
            .collect();
        let product = |chain: usize| LinearProduct {
            chain,
            weight: &gate[chain].0,
            bias: gate[chain].1.as_ref(),
            up: None,
            up_bias: None,
            residual: None,
        };
        let plain: Vec<_> = (0..3).map(product).collect();
        let added = (0..3).map(|i| LinearProduct { residual: Some(&residual[i]), ..product(i) });
        let gated = (0..3).map(|i| LinearProduct {
            up: Some(&up[i].0),
            up_bias: up[i].1.as_ref(),
            ..product(i)
        });
        let found = [
            colm_cuda::chain_linear(&inputs, &plain)?,
            colm_cuda::chain_linear(&inputs, &added.collect::<Vec<_>>())?,
            colm_cuda::chain_linear(&inputs, &gated.collect::<Vec<_>>())?,
        ];

        let rows = ChainRows::new(&rows)?;
        let wide =
            |x: &[Tensor]| x.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<Vec<_>>>();
        let (x, gate, up) = (wide(&x)?, ChainWeights::pack(&gate)?, ChainWeights::pack(&up)?);
        let expected = [
            colm_kernels::chain_linear(&x, &rows, &[&gate])?.remove(0),
            colm_kernels::chain_linear_add(&x, &rows, &gate, &wide(&residual)?)?,
            colm_kernels::chain_gated(&x, &rows, &gate, &up)?,
        ];
        for (what, (found, expected)) in
            ["plain", "added", "gated"].iter().zip(found.iter().zip(&expected))
        {
            for (chain, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_close(found, expected, &format!("{what}, chain {chain}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn norms_of_all_chains() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        let chains = [(5, 64), (2, 200)].map(|(rows, width)| {
            (random(&[rows, width], dtype).unwrap(), random(&[width], dtype).unwrap())
        });
        let of = |(x, weight)| NormChain { x, weight };
        let found = colm_cuda::chain_rms_norm(
            &[of((&chains[0].0, &chains[0].1)), of((&chains[1].0, &chains[1].1))],
            1e-5,
        )?;
        let (x, weights): (Vec<_>, Vec<_>) = chains.into_iter().unzip();
        let expected = colm_kernels::chain_rms_norm(&x, &weights, 1e-5)?;
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, "norm")?;
        }
    }
    Ok(())
}

const HEAD_DIM: usize = 64;
const BLOCK: usize = 16;
const BLOCKS: usize = 12;

/// A step of two sequences, one going on from a cached prefix: chain 1 on all rows, chain 2 on the last.
/// Its own cache on either side, because the arrangement within a block is each side's own.
#[test]
fn a_step_writes_the_cache_and_attends_over_it() -> Result<()> {
    let tables = vec![vec![7, 2, 9], vec![4, 11, 0]];
    let sequences = [(0usize, 37usize), (20, 5)];
    for (kv_heads, reads) in [(2, [0..2, 0..2]), (3, [0..2, 2..3])] {
        for dtype in [DType::BF16, DType::F16] {
            step(dtype, kv_heads, &reads, &tables, sequences)?;
        }
    }
    Ok(())
}

fn step(
    dtype: DType,
    kv_heads: usize,
    reads: &[Range<usize>; 2],
    tables: &[Vec<u32>],
    sequences: [(usize, usize); 2],
) -> Result<()> {
    let heads = [4, 2];
    let rope = Rope::new(HEAD_DIM, 10_000., 64, None)?;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, &CPU);
    let numbers = [BLOCKS, kv_heads, BLOCK, HEAD_DIM];
    let (gpu_keys, gpu_values) = (zeros(&numbers)?, zeros(&numbers)?);
    let gpu = colm_cuda::KvBlocks {
        keys: &gpu_keys,
        values: &gpu_values,
        kv_heads,
        block_size: BLOCK,
        head_dim: HEAD_DIM,
    };
    let keys = zeros(&[BLOCKS, kv_heads, HEAD_DIM / 8, BLOCK, 8])?;
    let values = zeros(&[BLOCKS, kv_heads, HEAD_DIM, BLOCK])?;
    let kv = KvBlocks::from_host(&keys, &values, HEAD_DIM)?;

    // The prefix of the second sequence and the new rows of both; one row is padding.
    let mut at: Vec<(usize, usize)> = (0..sequences[1].0).map(|position| (1, position)).collect();
    for (sequence, (first, rows)) in sequences.into_iter().enumerate() {
        at.extend((first..first + rows).map(|position| (sequence, position)));
    }
    let mut positions: Vec<usize> = at.iter().map(|&(_, position)| position).collect();
    let slot = |&(sequence, position): &(usize, usize)| {
        i64::from(tables[sequence][position / BLOCK]) * BLOCK as i64 + (position % BLOCK) as i64
    };
    let mut slots: Vec<i64> = at.iter().map(slot).collect();
    positions.push(0);
    slots.push(-1);
    let (k, v) = (
        random(&[slots.len(), kv_heads, HEAD_DIM], dtype)?,
        random(&[slots.len(), kv_heads, HEAD_DIM], dtype)?,
    );
    let rotated = rope.apply(&k, &positions)?;
    kv.write(0..kv_heads, &rotated, &v, &Slots::new(slots.clone()))?;

    let table = rope_table()?;
    let at: Vec<u32> = positions.iter().map(|&position| position as u32).collect();
    let (at, slots) = (Tensor::new(at, &CPU)?, Tensor::new(slots, &CPU)?);
    let found = colm_cuda::rope(&k, &at, &table)?;
    assert_close(&found, &rotated, "rope")?;
    colm_cuda::kv_write(&gpu, 0, (&found, &v), &slots, None)?;
    let numbers_of = |keys: &Tensor| keys.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let written = numbers_of(&gpu_keys)?;
    // RoPE and the write in one launch: the same bits at the same slots.
    for host in [&gpu_keys, &gpu_values] {
        host.zero_set()?;
    }
    colm_cuda::kv_write(&gpu, 0, (&k, &v), &slots, Some((&table, &at)))?;
    assert_eq!(numbers_of(&gpu_keys)?, written);

    let ranges = [
        sequences.map(|(first_position, rows)| (first_position, rows)).to_vec(),
        sequences.map(|(first_position, rows)| (first_position + rows - 1, 1)).to_vec(),
    ];
    let q = ranges.iter().zip(heads).map(|(ranges, heads)| {
        let rows = ranges.iter().map(|(_, rows)| rows).sum();
        random(&[rows, heads, HEAD_DIM], dtype)
    });
    let q = q.collect::<Result<Vec<_>>>()?;
    let cpu_ranges = ranges.clone().map(|ranges| {
        let range =
            |(sequence, (first_position, rows))| QueryRange { sequence, first_position, rows };
        ranges.into_iter().enumerate().map(range).collect::<Vec<_>>()
    });
    let chains: Vec<_> = (0..2)
        .map(|i| ChainQueries { q: &q[i], ranges: &cpu_ranges[i], kv_heads: reads[i].clone() })
        .collect();
    let scale = 1. / (HEAD_DIM as f32).sqrt();
    let expected =
        colm_kernels::chain_attention(&chains, &kv, &BlockTables::new(tables.to_vec()), scale)?;

    let chain_heads = [0, 1].map(|i| ChainHeads {
        heads: heads[i] as i32,
        first_kv_head: reads[i].start as i32,
        kv_heads: reads[i].len() as i32,
    });
    let mut gpu_ranges = Vec::new();
    for (chain, ranges) in ranges.iter().enumerate() {
        let mut first_row = 0;
        for (sequence, &(first_position, rows)) in ranges.iter().enumerate() {
            gpu_ranges.push(colm_cuda::QueryRange {
                chain: chain as i32,
                sequence: sequence as i32,
                first_position: first_position as i32,
                rows: rows as i32,
                first_row,
            });
            first_row += rows as i32;
        }
    }
    let plan = AttentionPlan::new(&chain_heads, &gpu_ranges, &CPU)?;
    let tables = Tensor::new(tables.to_vec(), &CPU)?;
    let found = colm_cuda::chain_attention(&plan, &[&q[0], &q[1]], &gpu, &tables, scale)?;
    for (chain, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_close(found, expected, &format!("attention, chain {chain} of {kv_heads} heads"))?;
    }
    let narrow = tables.narrow(1, 0, 1)?.contiguous()?;
    assert_error(
        colm_cuda::chain_attention(&plan, &[&q[0], &q[1]], &gpu, &narrow, scale),
        "block tables",
    );
    Ok(())
}

/// The table of RoPE (`docs/spec.md#layers`) for theta 10000, computed independently.
fn rope_table() -> Result<RopeTable> {
    let angle = |position: usize, pair: usize| {
        position as f64 * 10_000f64.powf(-2. * pair as f64 / HEAD_DIM as f64)
    };
    let table = |of: fn(f64) -> f64| {
        let numbers =
            (0..64).flat_map(|at| (0..HEAD_DIM / 2).map(move |pair| of(angle(at, pair)) as f32));
        Tensor::from_vec(numbers.collect::<Vec<_>>(), (64, HEAD_DIM / 2), &CPU)
    };
    Ok(RopeTable { cos: table(f64::cos)?, sin: table(f64::sin)? })
}

#[test]
fn errors_name_the_argument() -> Result<()> {
    let x = random(&[3, 16], DType::F16)?;
    let weight = random(&[8, 24], DType::F16)?;
    let input = LinearInput { x: &x, row_map: None };
    let product = LinearProduct {
        chain: 0,
        weight: &weight,
        bias: None,
        up: None,
        up_bias: None,
        residual: None,
    };
    assert_error(
        colm_cuda::chain_linear(&[input], &[product]),
        "W of chain 0 must be F16 of [8, 16]",
    );
    assert_error(
        colm_cuda::chain_linear(&[input], &[LinearProduct { chain: 1, ..product }]),
        "inputs of 1 chains",
    );
    let wide = random(&[3, 16], DType::F32)?;
    assert_error(
        colm_cuda::chain_linear(&[LinearInput { x: &wide, row_map: None }], &[product]),
        "bf16 or f16",
    );
    let odd = (random(&[3, 12], DType::F16)?, random(&[8, 12], DType::F16)?);
    let product = LinearProduct { weight: &odd.1, ..product };
    assert!(
        colm_cuda::chain_linear(&[LinearInput { x: &odd.0, row_map: None }], &[product]).is_err()
    );
    assert_error(
        colm_cuda::chain_rms_norm(&[NormChain { x: &x, weight: &x }], 1e-5),
        "rows of 16 F16 and a weight of [3, 16]",
    );
    let heads = ChainHeads { heads: 1, first_kv_head: 0, kv_heads: 1 };
    assert_error(
        AttentionPlan::new(&[heads; 17], &[], &CPU),
        "17 chains: the CUDA kernels support up to 16",
    );
    let keys = Tensor::zeros((1, 1, 8, HEAD_DIM), DType::F16, &CPU)?;
    let cache = colm_cuda::KvBlocks {
        keys: &keys,
        values: &keys,
        kv_heads: 1,
        block_size: 8,
        head_dim: HEAD_DIM,
    };
    let row = random(&[1, 1, HEAD_DIM], DType::F16)?;
    assert_error(
        colm_cuda::kv_write(&cache, 0, (&row, &row), &Tensor::new(&[0i64], &CPU)?, None),
        "block_size = 8: the CUDA kernels support KV blocks of [16, 32, 48, 64] positions",
    );
    let positions = Tensor::new(&[0u32, 1], &CPU)?;
    assert_error(
        colm_cuda::rope(&random(&[3, 1, 64], DType::F16)?, &positions, &rope_table()?),
        "positions must be U32 [3]",
    );
    Ok(())
}

use candle_core::{DType, Result, Tensor};
use colm_cuda::{AttentionPlan, ChainHeads, LinearInput, LinearProduct, NormChain};

use super::attention::{rope_table, HEAD_DIM};
use super::{assert_error, random, CPU};

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
        "W of chain 1 must be F16 of [8, 16]",
    );
    assert_error(
        colm_cuda::chain_linear(&[input], &[LinearProduct { chain: 1, ..product }]),
        "a product of chain 2, but inputs of 1 chains",
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
        "chain 1 has rows of 16 F16 and a weight of [3, 16]",
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

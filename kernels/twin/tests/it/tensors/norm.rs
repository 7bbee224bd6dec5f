use candle_core::{DType, Result};
use colm_cuda::NormChain;

use super::{assert_close, random};

#[test]
fn norms_of_all_chains() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        let tensors = [(5, 64), (2, 200)]
            .map(|(rows, width)| Ok((random(&[rows, width], dtype)?, random(&[width], dtype)?)));
        let tensors = tensors.into_iter().collect::<Result<Vec<_>>>()?;
        let chains: Vec<_> = tensors.iter().map(|(x, weight)| NormChain { x, weight }).collect();
        let found = colm_cuda::chain_rms_norm(&chains, 1e-5)?;
        let (x, weights): (Vec<_>, Vec<_>) = tensors.iter().cloned().unzip();
        let expected = colm_kernels::chain_rms_norm(&x, &weights, 1e-5)?;
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, "norm")?;
        }
        // The results are parts of one allocation.
        assert_eq!(found[0].layout().start_offset(), 0);
        assert_eq!(found[1].layout().start_offset(), found[0].elem_count());
    }
    Ok(())
}

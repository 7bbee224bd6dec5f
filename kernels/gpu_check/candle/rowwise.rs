//! Norms and RoPE.

use candle_core::Result;
use colm_kernels::{chain_rms_norm, Rope};

use super::{assert_close, in_f32, new_device, on_device, random, DTYPES};

#[test]
fn norms() -> Result<()> {
    for dtype in DTYPES {
        let x = [(70, 64), (5, 2048)].map(|(rows, width)| random(&[rows, width], dtype));
        let weights = [64, 2048].map(|width| random(&[width], dtype));
        let x = x.into_iter().collect::<Result<Vec<_>>>()?;
        let weights = weights.into_iter().collect::<Result<Vec<_>>>()?;
        let found = chain_rms_norm(&on_device(&x)?, &on_device(&weights)?, 1e-5)?;
        let expected = chain_rms_norm(&in_f32(&x)?, &in_f32(&weights)?, 1e-5)?;
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, "norm")?;
        }
    }
    Ok(())
}

/// Every head_dim, up to the last position of a long context.
#[test]
fn rope() -> Result<()> {
    let positions = [0, 1, 100, 8191, 131_071];
    for head_dim in [32, 64, 128] {
        let rope = Rope::new(head_dim, 5e5, 131_072, None)?;
        for dtype in DTYPES {
            let x = [random(&[positions.len(), 3, head_dim], dtype)?];
            let found = rope.apply(&on_device(&x)?[0], &positions)?;
            assert_close(&found, &rope.apply(&in_f32(&x)?[0], &positions)?, "rope")?;
        }
    }
    Ok(())
}

/// Positions that were uploaded for one device object are not used with another object of the same GPU.
#[test]
fn two_device_objects_of_one_gpu() -> Result<()> {
    let rope = Rope::new(64, 1e4, 16, None)?;
    let x = random(&[3, 2, 64], DTYPES[0])?;
    let expected = rope.apply(&in_f32(std::slice::from_ref(&x))?[0], &[3, 5, 9])?;
    for _ in 0..2 {
        let found = rope.apply(&x.to_device(&new_device())?, &[3, 5, 9])?;
        assert_close(&found, &expected, "rope on a new device object")?;
    }
    Ok(())
}

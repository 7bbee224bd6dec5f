//! RMS norm, RoPE and the gated activation against their formulas in f64.

use crate::reference::{numbers, random};
use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_rms_norm, silu_mul, Llama3Scaling, Rope};
use rand::rngs::StdRng;
use rand::SeedableRng;

/// Dtypes and their relative rounding error.
const DTYPES: [(DType, f64); 3] =
    [(DType::F32, 0.0), (DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];

fn check(out: &Tensor, expected: &[f64], rounding: f64) -> Result<()> {
    assert_eq!(out.elem_count(), expected.len());
    for (at, (&out, &expected)) in numbers(out)?.iter().zip(expected).enumerate() {
        let allowed = 2e-6 * (1.0 + expected.abs()) + rounding * expected.abs();
        let error = (f64::from(out) - expected).abs();
        assert!(error <= allowed, "number {at}: {out}, expected {expected}");
    }
    Ok(())
}

/// `[rows, width]`, a slice of a wider tensor.
fn strided(seed: u64, rows: usize, width: usize, dtype: DType) -> Result<Tensor> {
    let wide = random(&mut StdRng::seed_from_u64(seed), (rows, width + 7, 1), dtype)?;
    wide.squeeze(2)?.narrow(1, 3, width)
}

#[test]
fn norm_is_over_the_chain() -> Result<()> {
    for (dtype, rounding) in DTYPES {
        let (rows, hidden, eps) = (40, 515, 1e-2);
        let x = strided(1, rows, hidden, dtype)?;
        let weight = strided(2, 1, hidden, dtype)?.squeeze(0)?;
        // A second chain of another width, and the weight of a third without rows.
        let (narrow, ones) = (strided(8, 3, 16, dtype)?, strided(9, 1, 16, dtype)?.squeeze(0)?);
        let weights = [weight.clone(), ones.clone(), ones.clone()];
        let outs = chain_rms_norm(&[x.clone(), narrow.clone()], &weights, eps)?;
        let [out, beside] = outs.try_into().unwrap();
        let alone = chain_rms_norm(&[narrow], &[ones], eps)?;
        assert_eq!(numbers(&beside)?, numbers(&alone[0])?);
        assert_eq!((out.dims(), out.dtype()), (x.dims(), dtype));
        let weights = numbers(&weight)?;
        let mut expected = Vec::new();
        for x in numbers(&x)?.chunks(hidden) {
            let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let scale = 1.0 / (squares / hidden as f64 + eps).sqrt();
            expected
                .extend(x.iter().zip(&weights).map(|(&x, &w)| f64::from(x) * scale * f64::from(w)));
        }
        check(&out, &expected, rounding)?;
    }
    Ok(())
}

#[test]
fn a_norm_weight_of_another_width_is_an_error() -> Result<()> {
    let x = strided(1, 2, 8, DType::F32)?;
    let weight = strided(2, 1, 4, DType::F32)?.squeeze(0)?;
    let right = strided(3, 1, 8, DType::F32)?.squeeze(0)?;
    let norm = |x: &[&Tensor], weights: &[&Tensor]| {
        let own = |tensors: &[&Tensor]| tensors.iter().map(|&x| x.clone()).collect::<Vec<_>>();
        chain_rms_norm(&own(x), &own(weights), 1e-6)
    };
    let error = norm(&[&x, &x], &[&right, &weight]).unwrap_err().to_string();
    assert!(error.contains("chain 2: ") && error.contains("[2, 8]"), "{error}");
    assert!(error.contains("[4]"), "{error}");
    assert!(norm(&[&x, &x], &[&right]).is_err());
    assert!(norm(&[&x.to_dtype(DType::F64)?], &[&right]).is_err());
    Ok(())
}

#[test]
fn silu_times_up() -> Result<()> {
    for (dtype, rounding) in DTYPES {
        let gate = (strided(3, 30, 1003, dtype)? * 40.0)?;
        let up = strided(4, 30, 1003, dtype)?;
        let out = silu_mul(&gate, &up)?;
        assert_eq!((out.dims(), out.dtype()), (gate.dims(), dtype));
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let pairs = numbers(&gate)?.into_iter().zip(numbers(&up)?);
        let expected: Vec<f64> = pairs.map(|(g, u)| silu(f64::from(g)) * f64::from(u)).collect();
        check(&out, &expected, rounding)?;
    }
    Ok(())
}

#[test]
fn silu_of_the_extremes() -> Result<()> {
    let gate = Tensor::new(&[[-1e30f32, -200.0, -89.0, 0.0, 89.0, 1e30]], &Device::Cpu)?;
    let out = numbers(&silu_mul(&gate, &gate.ones_like()?)?)?;
    assert_eq!(out, [0.0, 0.0, 0.0, 0.0, 89.0, 1e30]);
    assert!(silu_mul(&gate, &gate.narrow(1, 0, 3)?).is_err());
    Ok(())
}

fn rotated(x: &[f32], position: usize, frequency: impl Fn(usize) -> f64) -> Vec<f64> {
    let half = x.len() / 2;
    let mut out = vec![0.0; x.len()];
    for j in 0..half {
        let (sin, cos) = (position as f64 * frequency(j)).sin_cos();
        let (a, b) = (f64::from(x[j]), f64::from(x[j + half]));
        out[j] = a * cos - b * sin;
        out[j + half] = a * sin + b * cos;
    }
    out
}

#[test]
fn rope_rotates_pairs_of_halves() -> Result<()> {
    let (heads, head_dim, theta) = (3, 10, 5e5f64);
    let rope = Rope::new(head_dim, theta, 3000, None)?;
    let positions = [0, 1, 2999, 17, 5];
    for (dtype, rounding) in DTYPES {
        let wide = random(&mut StdRng::seed_from_u64(5), (5, heads + 2, head_dim), dtype)?;
        let x = wide.narrow(1, 1, heads)?;
        let out = rope.apply(&x, &positions)?;
        assert_eq!((out.dims(), out.dtype()), (x.dims(), dtype));
        let frequency = |j| theta.powf(-(2.0 * j as f64) / head_dim as f64);
        let expected: Vec<f64> = numbers(&x)?
            .chunks(head_dim)
            .enumerate()
            .flat_map(|(row, x)| rotated(x, positions[row / heads], frequency))
            .collect();
        // A rotated number can be small although its inputs are not.
        let out = numbers(&out)?;
        for (&out, &expected) in out.iter().zip(&expected) {
            assert!((f64::from(out) - expected).abs() <= 2e-6 + 2.0 * rounding, "{out} {expected}");
        }
    }
    Ok(())
}

/// As transformers computes it: by wavelength, with interpolation between the two bounds.
#[test]
fn rope_with_llama3_scaling() -> Result<()> {
    let scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    let (head_dim, theta) = (64, 5e5f64);
    let rope = Rope::new(head_dim, theta, 200, Some(scaling))?;
    let frequency = |j: usize| {
        let plain = theta.powf(-(2.0 * j as f64) / head_dim as f64);
        let wavelength = 2.0 * std::f64::consts::PI / plain;
        if wavelength < 8192.0 / 4.0 {
            plain
        } else if wavelength > 8192.0 / 1.0 {
            plain / 8.0
        } else {
            let smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
            (1.0 - smooth) * plain / 8.0 + smooth * plain
        }
    };
    let x = random(&mut StdRng::seed_from_u64(6), (1, 1, head_dim), DType::F32)?;
    check(&rope.apply(&x, &[199])?, &rotated(&numbers(&x)?, 199, frequency), 0.0)
}

#[test]
fn invalid_arguments_of_rope_are_errors() -> Result<()> {
    let rope = Rope::new(8, 1e4, 100, None)?;
    let x = random(&mut StdRng::seed_from_u64(7), (2, 1, 8), DType::F32)?;
    let error = rope.apply(&x, &[3, 100]).unwrap_err().to_string();
    assert!(error.contains("position 100") && error.contains("100 positions"), "{error}");
    assert!(rope.apply(&x, &[3]).is_err());
    assert!(rope.apply(&x.narrow(2, 0, 4)?, &[3, 4]).is_err());
    assert!(Rope::new(7, 1e4, 100, None).is_err());
    assert!(Rope::new(8, f64::NAN, 100, None).is_err());
    Ok(())
}

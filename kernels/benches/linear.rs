//! How fast the linear layers are: multiply-adds of a prompt, bytes of weights of a decoded row.
//!
//! `cargo bench -p colm-kernels --bench linear`; `RAYON_NUM_THREADS=1` for one core.

use std::time::Instant;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_gated, chain_linear, with_threads_awake, ChainRows, ChainWeights};

fn main() -> Result<()> {
    println!("{} threads", rayon::current_num_threads());
    for held in
        [Held::Float(DType::F32), Held::Float(DType::BF16), Held::Float(DType::F16), Held::Q8]
    {
        for (outputs, inputs) in [(1024, 1024), (4096, 1024), (1024, 4096), (256, 256), (1024, 256)]
        {
            for rows in [1, 4, 32, 512, 2048] {
                report(outputs, inputs, rows, held)?;
            }
        }
    }
    Ok(())
}

/// What a weight is in memory.
#[derive(Clone, Copy, Debug)]
enum Held {
    Float(DType),
    Q8,
}

impl Held {
    /// Bytes of `weights` weights.
    fn bytes(self, weights: usize) -> usize {
        match self {
            Self::Float(dtype) => weights * dtype.size_in_bytes(),
            Self::Q8 => weights / 32 * 34,
        }
    }

    fn pack(self, weight: &Tensor) -> Result<ChainWeights> {
        match self {
            Self::Float(dtype) => ChainWeights::pack(&[(weight.to_dtype(dtype)?, None)]),
            Self::Q8 => ChainWeights::pack_q8_0(&[QTensor::quantize(weight, GgmlDType::Q8_0)?]),
        }
    }
}

fn report(outputs: usize, inputs: usize, rows: usize, held: Held) -> Result<()> {
    let cpu = &Device::Cpu;
    // Several layers in turn, as in a model: together they do not stay in the cache.
    let layers = (256 << 20) / held.bytes(outputs * inputs).max(1 << 20);
    let pack = || held.pack(&Tensor::randn(0f32, 1f32, (outputs, inputs), cpu)?);
    let layers = (0..layers.min(64)).map(|_| pack()).collect::<Result<Vec<_>>>()?;
    let x = [Tensor::randn(0f32, 1f32, (rows, inputs), cpu)?];
    let chain_rows = ChainRows::same(1, rows);
    let plain = fastest(&layers, |weights| chain_linear(&x, &chain_rows, &[weights]).map(drop))?;
    let gated = fastest(&layers, |w| chain_gated(&x, &chain_rows, w, w).map(drop))?;
    let flops = (2 * outputs * inputs * rows) as f64;
    let bytes = held.bytes(outputs * inputs) as f64;
    println!(
        "{held:?} [{outputs:4}, {inputs:4}] x {rows:4} rows: {:8.1} us, {:6.1} GFLOP/s, {:5.1} GB/s; \
         gated {:6.1} GFLOP/s",
        plain * 1e6,
        flops / plain * 1e-9,
        bytes / plain * 1e-9,
        2. * flops / gated * 1e-9,
    );
    Ok(())
}

/// Seconds per layer in the fastest of several rounds.
fn fastest(
    layers: &[ChainWeights],
    run: impl Fn(&ChainWeights) -> Result<()> + Sync,
) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        with_threads_awake(|| layers.iter().try_for_each(&run))?;
        fastest = fastest.min(start.elapsed().as_secs_f64() / layers.len() as f64);
    }
    Ok(fastest)
}

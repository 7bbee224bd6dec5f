//! How fast the linear layers are: multiply-adds of a prompt, bytes of weights of a decoded row.
//!
//! `cargo bench -p colm-kernels --bench linear`; `RAYON_NUM_THREADS=1` for one core.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_gated, chain_linear, ChainRows, ChainWeights};

fn main() -> Result<()> {
    println!("{} threads", rayon::current_num_threads());
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (outputs, inputs) in [(1024, 1024), (4096, 1024), (1024, 4096), (256, 256), (1024, 256)]
        {
            for rows in [1, 4, 32, 512, 2048] {
                report(outputs, inputs, rows, dtype)?;
            }
        }
    }
    Ok(())
}

fn report(outputs: usize, inputs: usize, rows: usize, dtype: DType) -> Result<()> {
    let cpu = &Device::Cpu;
    // Several layers in turn, as in a model: together they do not stay in the cache.
    let layers = (256 << 20) / (outputs * inputs * dtype.size_in_bytes()).max(1 << 20);
    let pack = || {
        let weight = Tensor::randn(0f32, 1f32, (outputs, inputs), cpu)?.to_dtype(dtype)?;
        ChainWeights::pack(&[(weight, None)])
    };
    let layers = (0..layers.min(64)).map(|_| pack()).collect::<Result<Vec<_>>>()?;
    let x = [Tensor::randn(0f32, 1f32, (rows, inputs), cpu)?];
    let chain_rows = ChainRows::same(1, rows);
    let plain = fastest(&layers, |weights| chain_linear(&x, &chain_rows, &[weights]).map(drop))?;
    let gated = fastest(&layers, |w| chain_gated(&x, &chain_rows, w, w).map(drop))?;
    let flops = (2 * outputs * inputs * rows) as f64;
    let bytes = (outputs * inputs * dtype.size_in_bytes()) as f64;
    println!(
        "{dtype:?} [{outputs:4}, {inputs:4}] x {rows:4} rows: {:8.1} us, {:6.1} GFLOP/s, {:5.1} GB/s; \
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
        // From within the thread pool, as the model runs.
        rayon::scope(|_| layers.iter().try_for_each(&run))?;
        fastest = fastest.min(start.elapsed().as_secs_f64() / layers.len() as f64);
    }
    Ok(fastest)
}

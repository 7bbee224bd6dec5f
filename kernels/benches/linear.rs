//! The speed of the linear layers, in FLOP/s and in bytes of weights per second. For quantized weights also that of
//! candle's own product.
//!
//! `cargo bench -p colm-kernels --bench linear`; `RAYON_NUM_THREADS=1` for one core; `-- Q4K` for the cases whose line
//! contains that text; `-- --no-candle` without candle, which is slow with many rows; `-- --bf16` with activations rounded
//! to bf16.

use std::borrow::Cow;
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use colm_kernels::{chain_gated, chain_linear, ChainRows, ChainWeights, MatmulPrecision};

fn main() -> Result<()> {
    println!("{} threads", rayon::current_num_threads());
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let with_candle = std::env::args().all(|arg| arg != "--no-candle");
    let bf16 = std::env::args().any(|arg| arg == "--bf16");
    let precision = if bf16 { MatmulPrecision::Bf16 } else { MatmulPrecision::F32 };
    let floats = [DType::F32, DType::BF16, DType::F16].map(Format::Float);
    let quantized = [GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];
    let quantized = quantized.map(Format::Quantized);
    for format in floats.into_iter().chain(quantized) {
        let shapes = [(1024, 1024), (4096, 1024), (1024, 4096), (256, 256), (1024, 256)];
        // Those of Qwen2.5-0.5B.
        let qwen = [(896, 896), (4864, 896), (896, 4864)];
        let shapes = shapes.into_iter().chain(qwen);
        for (outputs, inputs) in shapes.filter(|&(_, inputs)| format.divides(inputs)) {
            let name = |rows| format!("{format:?} [{outputs:4}, {inputs:4}] x {rows:4} rows");
            let rows = [1, 4, 32, 512, 2048].into_iter();
            let rows: Vec<_> = rows.filter(|&rows| name(rows).contains(&wanted)).collect();
            if !rows.is_empty() {
                let layers = Layers::new(outputs, inputs, format, precision, with_candle)?;
                for rows in rows {
                    println!("{}: {}", name(rows), layers.report(rows)?);
                }
            }
        }
    }
    Ok(())
}

/// How weights are stored.
#[derive(Clone, Copy, Debug)]
enum Format {
    Float(DType),
    Quantized(GgmlDType),
}

impl Format {
    /// Whether rows of `inputs` weights have whole blocks.
    fn divides(self, inputs: usize) -> bool {
        match self {
            Self::Float(_) => true,
            Self::Quantized(dtype) => inputs.is_multiple_of(dtype.block_size()),
        }
    }

    /// Bytes of `weights` weights.
    fn bytes(self, weights: usize) -> usize {
        match self {
            Self::Float(dtype) => weights * dtype.size_in_bytes(),
            Self::Quantized(dtype) => weights / dtype.block_size() * dtype.type_size(),
        }
    }
}

/// Several layers that are used in turn, as in a model. Together they exceed the cache of the processor.
struct Layers {
    outputs: usize,
    inputs: usize,
    format: Format,
    packed: Vec<ChainWeights>,
    /// The same quantized weights for candle.
    candle: Vec<QMatMul>,
}

impl Layers {
    fn new(
        outputs: usize,
        inputs: usize,
        format: Format,
        precision: MatmulPrecision,
        with_candle: bool,
    ) -> Result<Self> {
        let count = (256 << 20) / format.bytes(outputs * inputs).max(1 << 20);
        let weight = Tensor::randn(0f32, 1f32, (outputs, inputs), &Device::Cpu)?;
        let (mut packed, mut candle) = (Vec::new(), Vec::new());
        match format {
            Format::Float(dtype) => {
                let weight = weight.to_dtype(dtype)?;
                for _ in 0..count.min(64) {
                    packed.push(ChainWeights::pack_floats(&[(weight.clone(), None)], precision)?);
                }
            }
            Format::Quantized(dtype) => {
                let bytes = QTensor::quantize(&weight, dtype)?.data()?.to_vec();
                for _ in 0..count.min(64) {
                    let bytes = Cow::Borrowed(&bytes[..]);
                    let storage = QStorage::from_data(bytes, &Device::Cpu, dtype)?;
                    let weight = QTensor::new(storage, (outputs, inputs))?;
                    let weights = std::slice::from_ref(&weight);
                    packed.push(ChainWeights::pack_quantized(weights, &[], precision)?);
                    if with_candle {
                        candle.push(QMatMul::from_qtensor(weight)?);
                    }
                }
            }
        }
        Ok(Self { outputs, inputs, format, packed, candle })
    }

    fn report(&self, rows: usize) -> Result<String> {
        let x = [Tensor::randn(0f32, 1f32, (rows, self.inputs), &Device::Cpu)?];
        let chain_rows = ChainRows::same(1, rows);
        let plain = fastest(&self.packed, |w| chain_linear(&x, &chain_rows, &[w]).map(drop))?;
        let gated = fastest(&self.packed, |w| chain_gated(&x, &chain_rows, w, w).map(drop))?;
        let flops = (2 * self.outputs * self.inputs * rows) as f64;
        let bytes = self.format.bytes(self.outputs * self.inputs) as f64;
        let mut report = format!(
            "{:8.1} us, {:6.1} GFLOP/s, {:5.1} GB/s; gated {:6.1} GFLOP/s",
            plain * 1e6,
            flops / plain * 1e-9,
            bytes / plain * 1e-9,
            2. * flops / gated * 1e-9,
        );
        if !self.candle.is_empty() {
            let candle = fastest(&self.candle, |weights| weights.forward(&x[0]).map(drop))?;
            report += &format!("; candle {:6.1} GFLOP/s", flops / candle * 1e-9);
        }
        Ok(report)
    }
}

/// Seconds per layer in the fastest of several rounds.
fn fastest<T: Sync>(layers: &[T], run: impl Fn(&T) -> Result<()> + Sync) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        layers.iter().try_for_each(&run)?;
        fastest = fastest.min(start.elapsed().as_secs_f64() / layers.len() as f64);
    }
    Ok(fastest)
}

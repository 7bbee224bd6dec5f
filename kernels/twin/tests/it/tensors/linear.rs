use candle_core::{DType, Result, Tensor};
use colm_cuda::{LinearInput, LinearProduct};
use colm_kernels::{ChainRows, ChainWeights, MatmulPrecision};

use super::{assert_close, random, CPU};

const WIDTHS: [usize; 3] = [16, 8, 24];
const OUTPUTS: [usize; 3] = [32, 8, 16];

/// Three chains, the later two on some rows only, with biases: plain, added and gated.
#[test]
fn linear_layers_on_ragged_rows() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        let layers = Layers::new(dtype)?;
        let (found, expected) = (layers.on_the_twin()?, layers.on_the_cpu()?);
        for (what, (found, expected)) in
            ["plain", "added", "gated"].iter().zip(found.iter().zip(&expected))
        {
            for (chain, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_close(found, expected, &format!("{what}, chain {}", chain + 1))?;
            }
        }
    }
    Ok(())
}

/// Per chain W_i and b_i.
type Matrices = Vec<(Tensor, Option<Tensor>)>;

/// Two layers, of which the first is plain, added to a residual, or gates the second.
struct Layers {
    rows: [Vec<usize>; 3],
    x: Vec<Tensor>,
    gate: Matrices,
    up: Matrices,
    residual: Vec<Tensor>,
}

impl Layers {
    fn new(dtype: DType) -> Result<Self> {
        let rows = [(0..40).collect(), vec![3, 7, 8, 39], vec![8, 39]];
        let per_row = |widths: [usize; 3]| -> Result<Vec<Tensor>> {
            let shapes = rows.iter().zip(widths);
            shapes.map(|(rows, width)| random(&[rows.len(), width], dtype)).collect()
        };
        let matrices = || -> Result<Matrices> {
            let matrix = |chain: usize| {
                let inputs = WIDTHS[..=chain].iter().sum();
                let weight = random(&[OUTPUTS[chain], inputs], dtype)?;
                Ok((weight, Some(random(&[OUTPUTS[chain]], dtype)?)))
            };
            (0..3).map(matrix).collect()
        };
        let (x, residual) = (per_row(WIDTHS)?, per_row(OUTPUTS)?);
        Ok(Self { x, gate: matrices()?, up: matrices()?, residual, rows })
    }

    /// Plain, added and gated, per chain.
    fn on_the_twin(&self) -> Result<[Vec<Tensor>; 3]> {
        let row_maps = [
            None,
            Some(Tensor::new(&[[3u32, 7, 8, 39]], &CPU)?),
            Some(Tensor::new(&[[8u32, 39], [2, 3]], &CPU)?),
        ];
        let inputs = self.x.iter().zip(&row_maps);
        let inputs = inputs.map(|(x, row_map)| LinearInput { x, row_map: row_map.as_ref() });
        let inputs: Vec<_> = inputs.collect();
        let product = |chain: usize| LinearProduct {
            chain,
            weight: &self.gate[chain].0,
            bias: self.gate[chain].1.as_ref(),
            up: None,
            up_bias: None,
            residual: None,
        };
        let added = |chain: usize| LinearProduct {
            residual: Some(&self.residual[chain]),
            ..product(chain)
        };
        let gated = |chain: usize| LinearProduct {
            up: Some(&self.up[chain].0),
            up_bias: self.up[chain].1.as_ref(),
            ..product(chain)
        };
        Ok([
            colm_cuda::chain_linear(&inputs, &[0, 1, 2].map(product))?,
            colm_cuda::chain_linear(&inputs, &[0, 1, 2].map(added))?,
            colm_cuda::chain_linear(&inputs, &[0, 1, 2].map(gated))?,
        ])
    }

    /// The same in f32.
    fn on_the_cpu(&self) -> Result<[Vec<Tensor>; 3]> {
        let rows = ChainRows::new(&self.rows)?;
        let wide =
            |x: &[Tensor]| x.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<Vec<_>>>();
        let (x, residual) = (wide(&self.x)?, wide(&self.residual)?);
        let [gate, up] = [&self.gate, &self.up]
            .map(|matrices| ChainWeights::pack_floats(matrices, MatmulPrecision::F32));
        let (gate, up) = (gate?, up?);
        Ok([
            colm_kernels::chain_linear(&x, &rows, &[&gate])?.remove(0),
            colm_kernels::chain_linear_add(&x, &rows, &gate, &residual)?,
            colm_kernels::chain_gated(&x, &rows, &gate, &up)?,
        ])
    }
}

//! A linear layer, or several that read the same x, as a launch and as the formula in f64.

use std::ffi::{c_int, c_void};
use std::ptr;

use colm_kernels_twin::linear::{ChainLinear, LinearInput, LinearProduct};
use colm_kernels_twin::{status_text, Aligned};
use rand::rngs::StdRng;

use crate::half_float::{random, HalfFloat};
use crate::output::Output;

pub type Launcher = unsafe extern "C" fn(*const ChainLinear, *mut c_void) -> c_int;

/// A linear layer: out_i of the chains that have an output, and the epilogue.
#[derive(Clone, Copy, Debug)]
pub struct LayerShape<'a> {
    pub outputs: &'a [usize],
    pub gated: bool,
    pub bias: bool,
    pub residual: bool,
}

impl<'a> LayerShape<'a> {
    pub fn plain(outputs: &'a [usize]) -> Self {
        Self { outputs, gated: false, bias: false, residual: false }
    }
}

pub struct Matrix<T> {
    pub outputs: usize,
    pub weight: Aligned<T>,
    pub up: Option<Aligned<T>>,
    pub bias: Option<Aligned<T>>,
    pub up_bias: Option<Aligned<T>>,
    pub residual: Option<Aligned<T>>,
}

pub struct LinearCase<T> {
    /// The rows of each chain, as ascending numbers that all chains share.
    pub rows: Vec<Vec<usize>>,
    pub widths: Vec<usize>,
    pub x: Vec<Aligned<T>>,
    /// Per layer and chain.
    pub layers: Vec<Vec<Matrix<T>>>,
}

impl<T: HalfFloat> LinearCase<T> {
    pub fn new(
        rng: &mut StdRng,
        rows: &[Vec<usize>],
        widths: &[usize],
        shapes: &[LayerShape],
    ) -> Self {
        let mut random = |count| Aligned::new(&random(rng, count, 1.0));
        let x = rows.iter().zip(widths).map(|(rows, width)| random(rows.len() * width));
        let x = x.collect();
        let layers = shapes.iter().map(|shape| {
            let chains = shape.outputs.iter().enumerate();
            let matrices = chains.map(|(chain, &outputs)| {
                let inputs: usize = widths[..=chain].iter().sum();
                let mut some = |wanted: bool, count| wanted.then(|| random(count));
                Matrix {
                    outputs,
                    up: some(shape.gated, outputs * inputs),
                    bias: some(shape.bias, outputs),
                    up_bias: some(shape.bias && shape.gated, outputs),
                    residual: some(shape.residual, rows[chain].len() * outputs),
                    weight: random(outputs * inputs),
                }
            });
            matrices.collect()
        });
        let layers = layers.collect();
        Self { rows: rows.to_vec(), widths: widths.to_vec(), x, layers }
    }

    /// Keeps only the rows of every chain that are in `kept`.
    pub fn keep(&mut self, kept: &[usize]) {
        for chain in 0..self.rows.len() {
            let indices: Vec<usize> = (0..self.rows[chain].len())
                .filter(|&at| kept.contains(&self.rows[chain][at]))
                .collect();
            let narrow = |tensor: &Aligned<T>, width: usize| {
                let rows = indices.iter().flat_map(|at| &tensor.as_slice()[at * width..][..width]);
                Aligned::new(&rows.copied().collect::<Vec<T>>())
            };
            self.x[chain] = narrow(&self.x[chain], self.widths[chain]);
            for layer in &mut self.layers {
                let Some(matrix) = layer.get_mut(chain) else { continue };
                matrix.residual = matrix.residual.as_ref().map(|r| narrow(r, matrix.outputs));
            }
            self.rows[chain].retain(|row| kept.contains(row));
        }
    }

    /// Per layer and chain `[rows of the chain, outputs]`.
    pub fn run(&self, launcher: Launcher) -> Vec<Vec<Vec<T>>> {
        let row_maps: Vec<Option<Aligned<i32>>> =
            (0..self.rows.len()).map(|i| self.row_map(i)).collect();
        let mut linear = ChainLinear::new(T::DTYPE);
        for (chain, row_map) in row_maps.iter().enumerate() {
            linear.push_input(LinearInput {
                x: self.x[chain].as_ptr().cast(),
                row_map: row_map.as_ref().map_or(ptr::null(), Aligned::as_ptr),
                rows: self.rows[chain].len() as i32,
                width: self.widths[chain] as i32,
            });
        }
        let mut outputs: Vec<Vec<Output<T>>> = Vec::new();
        for layer in &self.layers {
            let matrices = layer.iter().enumerate();
            let ys = matrices
                .map(|(chain, matrix)| Output::new(self.rows[chain].len() * matrix.outputs));
            outputs.push(ys.collect());
        }
        for (layer, ys) in self.layers.iter().zip(&mut outputs) {
            for (chain, (matrix, y)) in layer.iter().zip(ys).enumerate() {
                linear.push_product(matrix.product(chain, y));
            }
        }
        // SAFETY: the tensors have the shapes given by rows, widths and outputs.
        let status = unsafe { launcher(&linear, ptr::null_mut()) };
        assert_eq!(status, 0, "{}", status_text(status));
        let written = outputs.into_iter().map(|ys| ys.into_iter().map(Output::written).collect());
        written.collect()
    }

    fn row_map(&self, chain: usize) -> Option<Aligned<i32>> {
        let own = &self.rows[chain];
        let earlier = &self.rows[..chain];
        if earlier.iter().all(|rows| rows == own) {
            return None;
        }
        let map = earlier.iter().flat_map(|rows| {
            own.iter().map(|row| rows.iter().position(|other| other == row).unwrap() as i32)
        });
        Some(Aligned::new(&map.collect::<Vec<_>>()))
    }

    /// The formula in f64, on the rounded inputs of the launch.
    pub fn expected(&self, layer: usize, chain: usize) -> Vec<f64> {
        let matrix = &self.layers[layer][chain];
        let mut out = Vec::new();
        for (at, row) in self.rows[chain].iter().enumerate() {
            let inputs: Vec<f64> =
                (0..=chain).flat_map(|earlier| self.x_of(earlier, *row)).collect();
            for output in 0..matrix.outputs {
                let mut y = sum(&matrix.weight, &matrix.bias, output, &inputs);
                if let Some(up) = &matrix.up {
                    y = y / (1. + (-y).exp()) * sum(up, &matrix.up_bias, output, &inputs);
                }
                let residual = matrix.residual.as_ref();
                y += residual.map_or(0., |r| r.as_slice()[at * matrix.outputs + output].wide());
                out.push(y);
            }
        }
        out
    }

    fn x_of(&self, chain: usize, row: usize) -> Vec<f64> {
        let index = self.rows[chain].iter().position(|&other| other == row).unwrap();
        let width = self.widths[chain];
        self.x[chain].as_slice()[index * width..][..width].iter().map(|x| x.wide()).collect()
    }
}

impl<T: HalfFloat> Matrix<T> {
    fn product(&self, chain: usize, y: &mut Output<T>) -> LinearProduct {
        let some = |tensor: &Option<Aligned<T>>| {
            tensor.as_ref().map_or(ptr::null(), |tensor| tensor.as_ptr().cast())
        };
        LinearProduct {
            weight: self.weight.as_ptr().cast(),
            up: some(&self.up),
            bias: some(&self.bias),
            up_bias: some(&self.up_bias),
            residual: some(&self.residual),
            y: y.as_mut_ptr().cast(),
            chain: chain as i32,
            outputs: self.outputs as i32,
        }
    }
}

fn sum<T: HalfFloat>(
    weight: &Aligned<T>,
    bias: &Option<Aligned<T>>,
    output: usize,
    inputs: &[f64],
) -> f64 {
    let weights = &weight.as_slice()[output * inputs.len()..][..inputs.len()];
    let products = weights.iter().zip(inputs).map(|(w, x)| w.wide() * x);
    products.sum::<f64>() + bias.as_ref().map_or(0., |bias| bias.as_slice()[output].wide())
}

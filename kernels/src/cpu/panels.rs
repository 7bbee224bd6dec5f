//! Weights in the order the product reads them.

use std::ops::Range;

use candle_core::quantized::QTensor;
use candle_core::{bail, Result, Tensor};

use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::rows::dense_rows;
use super::team::for_each_chunk;
use super::{Element, Rows};

/// A piece of a panel that stays in the first-level cache while the outputs are put into it.
const INPUTS_AT_A_TIME: usize = 64;

/// Which of `outputs` the panel `index` has.
pub(crate) fn outputs_of(index: usize, outputs: usize) -> Range<usize> {
    index * COLUMNS..outputs.min((index + 1) * COLUMNS)
}

/// A matrix `[outputs, inputs]` as panels of [`COLUMNS`] outputs: per panel the weights of one input
/// after the other, for all its outputs. A product reads each panel from end to end. The last panel is
/// filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels<W> {
    weights: Vec<W>,
    inputs: usize,
    outputs: usize,
}

impl<W: Right> Panels<W> {
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panels in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[W]> {
        let size = self.inputs / W::INPUTS;
        (0..self.outputs.div_ceil(COLUMNS)).map(move |panel| &self.weights[panel * size..][..size])
    }
}

impl<T: Element> Panels<[T; COLUMNS]> {
    pub(crate) fn pack(matrix: &Tensor) -> Result<Self> {
        let (outputs, inputs) = matrix.dims2()?;
        let matrix = dense_rows(matrix)?;
        let (storage, layout) = matrix.storage_and_layout();
        let rows = Rows::<T>::new(&storage, layout)?;
        let mut weights = vec![[T::zero(); COLUMNS]; outputs.div_ceil(COLUMNS) * inputs];
        for_each_chunk(&mut weights, inputs, |index, panel| {
            for (piece, panel) in panel.chunks_mut(INPUTS_AT_A_TIME).enumerate() {
                for (column, output) in outputs_of(index, outputs).enumerate() {
                    let row = &rows.row(output)[piece * INPUTS_AT_A_TIME..];
                    for (to, &from) in panel.iter_mut().zip(row) {
                        to[column] = from;
                    }
                }
            }
        });
        Ok(Self { weights, inputs, outputs })
    }

    /// The weights of one output, `[inputs]`: a row of the matrix that was packed.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = T> + '_ {
        let panel = &self.weights[output / COLUMNS * self.inputs..][..self.inputs];
        panel.iter().map(move |weights| weights[output % COLUMNS])
    }
}

impl<W: Quantized> Panels<W> {
    /// Fails if the matrix is of another type.
    pub(crate) fn pack_quantized(matrix: &QTensor) -> Result<Self> {
        let (outputs, inputs) = matrix.shape().dims2()?;
        let bytes = matrix.data()?;
        let per_output = inputs / W::INPUTS;
        let fits = inputs.is_multiple_of(W::INPUTS) && matrix.dtype() == W::DTYPE;
        if !fits || bytes.len() != outputs * per_output * W::BYTES {
            bail!("{matrix:?} of {} bytes is no matrix of {:?}", bytes.len(), W::DTYPE);
        }
        let mut weights = vec![W::ZERO; outputs.div_ceil(COLUMNS) * per_output];
        let bytes_per_output = per_output * W::BYTES;
        for_each_chunk(&mut weights, per_output, |index, panel| {
            for (column, output) in outputs_of(index, outputs).enumerate() {
                let blocks = bytes[output * bytes_per_output..].chunks_exact(W::BYTES);
                for (to, block) in panel.iter_mut().zip(blocks) {
                    to.put(column, block);
                }
            }
        });
        Ok(Self { weights, inputs, outputs })
    }

    /// The bytes of the matrix that was packed.
    pub(crate) fn unpack(&self) -> Vec<u8> {
        let per_output = self.inputs / W::INPUTS;
        let mut bytes = Vec::with_capacity(self.outputs * per_output * W::BYTES);
        for output in 0..self.outputs {
            for piece in &self.weights[output / COLUMNS * per_output..][..per_output] {
                piece.append(output % COLUMNS, &mut bytes);
            }
        }
        bytes
    }
}

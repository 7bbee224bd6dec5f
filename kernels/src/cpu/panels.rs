//! Weights in the order the product reads them.

use candle_core::{Result, Tensor};

use super::outer::COLUMNS;
use super::rows::dense_rows;
use super::{Element, Rows};

/// A matrix `[outputs, inputs]` as panels of [`COLUMNS`] outputs: per panel and input one number per
/// output. A product reads each panel from end to end. The last panel is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels<T> {
    numbers: Vec<T>,
    inputs: usize,
    outputs: usize,
}

impl<T: Element> Panels<T> {
    pub(crate) fn pack(matrix: &Tensor) -> Result<Self> {
        let (outputs, inputs) = matrix.dims2()?;
        let matrix = dense_rows(matrix)?;
        let (storage, layout) = matrix.storage_and_layout();
        let rows = Rows::<T>::new(&storage, layout)?;
        let mut numbers = vec![T::zero(); outputs.div_ceil(COLUMNS) * inputs * COLUMNS];
        for output in 0..outputs {
            let panel = output / COLUMNS * inputs * COLUMNS;
            let column = numbers[panel..].iter_mut().skip(output % COLUMNS).step_by(COLUMNS);
            for (to, &from) in column.zip(rows.row(output)) {
                *to = from;
            }
        }
        Ok(Self { numbers, inputs, outputs })
    }

    /// The weights of one output, `[inputs]`: a row of the matrix that was packed.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = T> + '_ {
        let panel = output / COLUMNS * self.inputs * COLUMNS;
        let column = self.numbers[panel..].iter().skip(output % COLUMNS).step_by(COLUMNS);
        column.take(self.inputs).copied()
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panels in order, `[inputs, COLUMNS]` each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[T]> {
        // An output without inputs has no weights, yet its panel counts.
        let panels = self.outputs.div_ceil(COLUMNS);
        let size = self.inputs * COLUMNS;
        (0..panels).map(move |panel| &self.numbers[panel * size..(panel + 1) * size])
    }
}

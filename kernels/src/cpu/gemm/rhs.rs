//! The rhs operand: weights packed into panels of [`NR`] outputs.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::quantized::QTensor;
use candle_core::{bail, DType, Error, Result, Tensor};

use super::{Bf16Pairs, NR};
use crate::cpu::arch::SimdVector;
use crate::cpu::huge_pages::filled_on_huge_pages;
use crate::cpu::quant::Quantized;
use crate::cpu::tensor_rows::contiguous_rows;
use crate::cpu::thread_pool::for_each_chunk;
use crate::cpu::{Element, TensorRows};

/// What AMX or AVX512-BF16 multiplies as bf16 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TileOperand {
    /// Nothing: the micro-kernel multiplies the weights in f32.
    None,
    /// The weights, which are bf16.
    Weights,
    /// The numbers of a group of [`TILE_DEPTH`](super::TILE_DEPTH) depths, integers of at most 8 bits. A weight is
    /// `number * scale + minimum`, so the scale of a group multiplies the sum of its products, and the minimum multiplies
    /// the sum of its inputs.
    Numbers {
        /// Whether there are minima.
        min: bool,
    },
}

/// One element of a packed rhs panel: the weights of [`NR`] columns at one depth or at several consecutive ones.
pub(crate) trait PackedRhs: Sized {
    /// How many depths one element covers.
    const DEPTH: usize;

    /// The depth of a panel is padded with zeros to a multiple of this, itself a multiple of `DEPTH`.
    const DEPTH_MULTIPLE: usize = Self::DEPTH;

    /// How many consecutive depths share their scales: a divisor of `DEPTH`.
    const GROUP: usize;

    /// How many depths of a group the micro-kernel unrolls, so that bit shifts are constants: a divisor of `GROUP`, at
    /// most 16.
    const UNROLL: usize;

    /// Whether the weights are stored as f32.
    const IS_F32: bool = false;

    /// Whether the micro-kernel is instantiated for up to [`MR`](super::MR) rows. Otherwise it is for up to
    /// [`SMALL_MR`](super::SMALL_MR), and more rows use the panel after [`widen`](super::widen): slower for some row
    /// counts, but much less to compile.
    const FULL_MR: bool;

    /// How many bytes ahead a product of few rows requests the weights from memory, beyond what the prefetcher of the
    /// processor does. 0 for types that are not faster with it (`benches/linear.rs`).
    const PREFETCH_DISTANCE: usize = 0;

    /// What AMX or AVX512-BF16 multiplies, where they are available.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const TILE_OPERAND: TileOperand = TileOperand::None;

    /// The panel itself, for [`TileOperand::Weights`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn pairs(_panel: &[Self]) -> &[Bf16Pairs] {
        &[]
    }

    /// For [`TileOperand::Numbers`]: the number at `depth`, for one vector of columns from `column` on.
    ///
    /// # Safety
    /// As for [`PackedRhs::load`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    unsafe fn load_number<V: SimdVector>(&self, _depth: usize, _column: usize) -> V {
        unreachable!("only for `TileOperand::Numbers`")
    }

    /// For [`TileOperand::Numbers`]: the scale, and the minimum of types that have one.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn scale_and_min<V: SimdVector>(_scales: Self::Scales<V>) -> (V, Option<V>) {
        unreachable!("only for `TileOperand::Numbers`")
    }

    /// What the depths of a group share.
    type Scales<V: SimdVector>: Copy;

    /// The scales of `group`, for one vector of columns from `column` on.
    ///
    /// # Safety
    /// The processor must have the instructions of `V`; the columns must be below [`NR`] and the group within `DEPTH`.
    unsafe fn load_scales<V: SimdVector>(&self, group: usize, column: usize) -> Self::Scales<V>;

    /// The weights at `depth`, for one vector of columns from `column` on. `scales` are those of the group of `depth`.
    ///
    /// # Safety
    /// As for [`PackedRhs::load_scales`]; `depth` must be below `DEPTH`.
    unsafe fn load<V: SimdVector>(&self, depth: usize, column: usize, scales: Self::Scales<V>)
        -> V;

    /// The weight at `depth` and `column`.
    fn value(&self, depth: usize, column: usize) -> f32;
}

/// Floats: one weight per column, as stored in the tensor.
impl<T: Element> PackedRhs for [T; NR] {
    const DEPTH: usize = 1;
    const GROUP: usize = 1;
    const UNROLL: usize = 1;
    const IS_F32: bool = matches!(T::DTYPE, DType::F32);
    const PREFETCH_DISTANCE: usize = if matches!(T::DTYPE, DType::BF16) { 4096 } else { 0 };
    const FULL_MR: bool = true;
    type Scales<V: SimdVector> = ();

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, _group: usize, _column: usize) {}

    #[inline(always)]
    unsafe fn load<V: SimdVector>(&self, _depth: usize, column: usize, _scales: ()) -> V {
        // SAFETY: the caller keeps the columns within the array.
        unsafe { T::load(self.as_ptr().add(column)) }
    }

    #[inline(always)]
    fn value(&self, _depth: usize, column: usize) -> f32 {
        self[column].wide()
    }
}

/// A packed rhs of floats as they are in the tensor.
pub(crate) trait PackedFloats: PackedRhs + Clone + Send + Sync + 'static {
    type Number: Element;

    /// All weights zero.
    fn zero() -> Self;

    /// Sets the weight at `depth`, below `DEPTH`, and `column`.
    fn set(&mut self, depth: usize, column: usize, number: Self::Number);

    /// The weight at `depth`, below `DEPTH`, and `column`.
    fn get(&self, depth: usize, column: usize) -> Self::Number;
}

impl<T: Element> PackedFloats for [T; NR] {
    type Number = T;

    fn zero() -> Self {
        [T::zero(); NR]
    }

    #[inline(always)]
    fn set(&mut self, _depth: usize, column: usize, number: T) {
        self[column] = number;
    }

    #[inline(always)]
    fn get(&self, _depth: usize, column: usize) -> T {
        self[column]
    }
}

/// Inputs packed at a time: this slice of a panel stays in the L1 cache while the outputs are interleaved.
const PACK_DEPTH: usize = 64;

/// The outputs of panel `index`, of `outputs` in total.
pub(crate) fn panel_outputs(index: usize, outputs: usize) -> Range<usize> {
    index * NR..outputs.min((index + 1) * NR)
}

/// A weight matrix `[outputs, inputs]` as packed panels of [`NR`] outputs. A panel holds, input by input, the weights
/// of all its outputs, so a product reads it sequentially. The last panel is padded with zeros.
#[derive(Debug)]
pub(crate) struct RhsPanels<W> {
    data: Vec<W>,
    inputs: usize,
    outputs: usize,
    /// Elements of a panel.
    panel_len: usize,
}

impl<W: PackedRhs> RhsPanels<W> {
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panels in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[W]> {
        (0..self.outputs.div_ceil(NR)).map(|panel| self.panel(panel))
    }

    fn panel(&self, index: usize) -> &[W] {
        &self.data[index * self.panel_len..][..self.panel_len]
    }
}

impl<W: PackedFloats> RhsPanels<W> {
    /// Packs a matrix whose dtype is that of `W::Number`.
    pub(crate) fn pack_floats(matrix: &Tensor) -> Result<Self> {
        let (outputs, inputs) = matrix.dims2()?;
        let matrix = contiguous_rows(matrix)?;
        let (storage, layout) = matrix.storage_and_layout();
        let rows = TensorRows::<W::Number>::new(&storage, layout)?;
        let panel_len = inputs.next_multiple_of(W::DEPTH_MULTIPLE) / W::DEPTH;
        let mut data = filled_on_huge_pages(outputs.div_ceil(NR) * panel_len, W::zero());
        for_each_chunk(&mut data, panel_len, |index, panel| {
            for (slice, panel) in panel.chunks_mut(PACK_DEPTH / W::DEPTH).enumerate() {
                for (column, output) in panel_outputs(index, outputs).enumerate() {
                    let row = &rows.row(output)[inputs.min(slice * PACK_DEPTH)..];
                    for (to, from) in panel.iter_mut().zip(row.chunks(W::DEPTH)) {
                        for (depth, &number) in from.iter().enumerate() {
                            to.set(depth, column, number);
                        }
                    }
                }
            }
        });
        Ok(Self { data, inputs, outputs, panel_len })
    }

    /// The weights of one output, `[inputs]`: a row of the unpacked matrix.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = W::Number> + '_ {
        let panel = self.panel(output / NR);
        let weight = move |depth: usize| panel[depth / W::DEPTH].get(depth % W::DEPTH, output % NR);
        (0..self.inputs).map(weight)
    }
}

impl<W: Quantized> RhsPanels<W> {
    /// Packs a matrix of `W`'s ggml type. Fails for another type.
    pub(crate) fn pack_quantized(matrix: &QTensor) -> Result<Self> {
        let (outputs, inputs) = matrix.shape().dims2()?;
        let bytes = matrix.data()?;
        let blocks_per_output = inputs / W::DEPTH;
        let fits = inputs.is_multiple_of(W::DEPTH) && matrix.dtype() == W::DTYPE;
        if !fits || bytes.len() != outputs * blocks_per_output * W::BYTES {
            bail!("{matrix:?} of {} bytes is not a matrix of {:?}", bytes.len(), W::DTYPE);
        }
        let mut data = filled_on_huge_pages(outputs.div_ceil(NR) * blocks_per_output, W::ZERO);
        let bytes_per_output = blocks_per_output * W::BYTES;
        for_each_chunk(&mut data, blocks_per_output, |index, panel| {
            let outputs = panel_outputs(index, outputs);
            interleave(
                panel,
                &bytes[outputs.start * bytes_per_output..][..outputs.len() * bytes_per_output],
            );
        });
        Ok(Self { data, inputs, outputs, panel_len: blocks_per_output })
    }

    /// Quantizes a matrix of floats, panel by panel on all threads, and packs it.
    pub(crate) fn quantize(matrix: &Tensor) -> Result<Self> {
        let (outputs, inputs) = matrix.dims2()?;
        if !inputs.is_multiple_of(W::DEPTH) {
            bail!(
                "{inputs} inputs are not a multiple of the {} of a block of {:?}",
                W::DEPTH,
                W::DTYPE
            );
        }
        let blocks_per_output = inputs / W::DEPTH;
        let mut data = filled_on_huge_pages(outputs.div_ceil(NR) * blocks_per_output, W::ZERO);
        let failed: OnceLock<String> = OnceLock::new();
        for_each_chunk(&mut data, blocks_per_output, |index, panel| {
            let outputs = panel_outputs(index, outputs);
            let mut quantize = || {
                // Copied, because candle quantizes the whole storage of a view.
                let rows = matrix.narrow(0, outputs.start, outputs.len())?.force_contiguous()?;
                let quantized = QTensor::quantize(&rows, W::DTYPE)?;
                interleave(panel, &quantized.data()?);
                Ok(())
            };
            if let Err(error) = quantize() {
                let error: Error = error;
                let _ = failed.set(error.to_string());
            }
        });
        match failed.into_inner() {
            Some(error) => Err(Error::Msg(error)),
            None => Ok(Self { data, inputs, outputs, panel_len: blocks_per_output }),
        }
    }

    /// The bytes of the unpacked matrix.
    pub(crate) fn unpack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.outputs * self.panel_len * W::BYTES);
        for output in 0..self.outputs {
            for packed in self.panel(output / NR) {
                packed.extract(output % NR, &mut bytes);
            }
        }
        bytes
    }
}

/// Inserts the quant blocks of the outputs of a panel, output after output in `bytes`.
fn interleave<W: Quantized>(panel: &mut [W], bytes: &[u8]) {
    for (column, row) in bytes.chunks_exact(panel.len() * W::BYTES).enumerate() {
        for (to, block) in panel.iter_mut().zip(row.chunks_exact(W::BYTES)) {
            to.insert(column, block);
        }
    }
}

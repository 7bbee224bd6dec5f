//! ChainLinear (docs/spec.md#layers): packed for the kernels, or as the host has quantized it.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Error, Result, Tensor};
use candle_nn::Linear;
use colm_checkpoint::{ColmConfig, Projection};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, silu_mul, ChainRows, ChainWeights, Unpacked,
};
use colm_prompt::panics::catch;
use mistralrs_quant::{
    linear_b, GgufMatMul, QuantMethod, QuantMethodConfig, QuantizedConfig, ShardedVarBuilder,
    UnquantLinear,
};

use super::representation::Representation;
use super::rows::ActiveRows;

/// The blocks of a layer as the host holds them: one [`QuantMethod`] per chain, so that choosing k
/// never slices quantized weights.
pub type Blocks = Vec<Arc<dyn QuantMethod>>;

/// y_i = W_i x_<=i.
pub enum ChainLinear {
    /// Weights the kernels know: all chains in one call.
    Packed(ChainWeights),
    /// The same, but the chains hold their weights differently, because the host quantizes a matrix as its
    /// width allows: one call per chain.
    PackedEach(Vec<ChainWeights>),
    /// Quantized, or about to be; one product per chain.
    Blocks(Blocks),
}

impl ChainLinear {
    /// The blocks of the first `k` chains from `vb`, which stands at the projection's name: of all
    /// chains, or of chain 1 alone (Air's keys and values). `pack` them if the host has not
    /// quantized them.
    pub fn load(
        config: &ColmConfig,
        projection: Projection,
        k: usize,
        quantization: &Option<QuantizedConfig>,
        pack: bool,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let (inputs, outputs) = (config.inputs(projection), config.outputs(projection));
        let owners = (0..k).filter(|&i| outputs.of(i) > 0);
        let block = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(inputs.upto(i), outputs.of(i), config.has_bias(projection), quantization, vb)
        };
        let blocks: Blocks = owners.map(block).collect::<Result<_>>()?;
        match unquantized(&blocks)? {
            Some(blocks) if pack => Ok(Self::Packed(ChainWeights::pack(&blocks)?)),
            _ => Ok(Self::Blocks(blocks)),
        }
    }

    /// Packs the blocks once the host has quantized them, if it has made them something the kernels
    /// know: one of ggml's forms that they have, or the weights as they were where their widths allow no
    /// quantization.
    pub fn pack_quantized(&mut self) -> Result<()> {
        let Self::Blocks(blocks) = self else { return Ok(()) };
        if let Some(weights) = packed(blocks)? {
            *self = Self::Packed(weights);
            return Ok(());
        }
        let each = blocks.iter().map(|block| packed(std::slice::from_ref(block)));
        if let Some(each) = each.collect::<Result<Option<_>>>()? {
            *self = Self::PackedEach(each);
        }
        Ok(())
    }

    /// The outputs of every chain that has rows and a block, for every one of `layers`, which all
    /// read `x`.
    pub fn forward<const N: usize>(
        layers: [&Self; N],
        x: &Representation,
        rows: &ActiveRows,
    ) -> Result<[Representation; N]> {
        if let Some(packed) = all_packed(layers) {
            let outputs = chain_linear(x.chains(), rows.chain_rows(), &packed)?;
            return Ok(exactly(outputs.into_iter().map(Representation::new)));
        }
        let prefixes = match layers.iter().all(|layer| matches!(layer, Self::Packed(_))) {
            true => Vec::new(),
            false => x.prefixes(rows)?,
        };
        let outputs = layers.iter().map(|layer| match layer {
            Self::Packed(weights) => {
                let outputs = chain_linear(x.chains(), rows.chain_rows(), &[weights])?;
                Ok(Representation::new(outputs.into_iter().flatten().collect()))
            }
            Self::PackedEach(weights) => each_forward(weights, &prefixes),
            Self::Blocks(blocks) => blocks_forward(blocks, &prefixes),
        });
        Ok(exactly(outputs.collect::<Result<Vec<_>>>()?.into_iter()))
    }

    /// `residual` + W x.
    pub fn forward_add(
        &self,
        x: &Representation,
        rows: &ActiveRows,
        residual: &Representation,
    ) -> Result<Representation> {
        if let Self::Packed(weights) = self {
            let sums = chain_linear_add(x.chains(), rows.chain_rows(), weights, residual.chains())?;
            return Ok(Representation::new(sums));
        }
        let [y] = Self::forward([self], x, rows)?;
        residual.add(&y)
    }

    /// silu(gate x) * (up x).
    pub fn forward_gated(
        gate: &Self,
        up: &Self,
        x: &Representation,
        rows: &ActiveRows,
    ) -> Result<Representation> {
        if let Some([gate, up]) = all_packed([gate, up]) {
            return Ok(Representation::new(chain_gated(x.chains(), rows.chain_rows(), gate, up)?));
        }
        let [gate, up] = Self::forward([gate, up], x, rows)?;
        let gated = gate.chains().iter().zip(up.chains());
        let gated = gated.map(|(gate, up)| silu_mul(gate, up));
        Ok(Representation::new(gated.collect::<Result<_>>()?))
    }

    /// The blocks as the host may quantize them: what was packed is unpacked for good.
    pub fn blocks_mut(&mut self) -> Result<&mut Blocks> {
        let unpacked = match self {
            Self::Packed(weights) => as_blocks(weights.unpack()?)?,
            Self::PackedEach(weights) => {
                let blocks = weights.iter().map(|weights| as_blocks(weights.unpack()?));
                blocks.collect::<Result<Vec<_>>>()?.concat()
            }
            Self::Blocks(blocks) => return Ok(blocks),
        };
        *self = Self::Blocks(unpacked);
        self.blocks_mut()
    }
}

/// W_i and b_i.
type WeightAndBias = (Tensor, Option<Tensor>);

/// The weights and biases of `blocks` if the host holds them as they came, where the kernels run.
pub(super) fn unquantized(blocks: &Blocks) -> Result<Option<Vec<WeightAndBias>>> {
    let plain = |block: &Arc<dyn QuantMethod>| {
        // Of a block that is waiting to be quantized the host would return weights as well.
        let plain = block.name() == "unquant-linear" && colm_kernels::runs_on(&device_of(block)?);
        Ok(plain.then(|| block.unquant_weight_bias()).flatten())
    };
    blocks.iter().map(plain).collect()
}

/// What [`ChainLinear::pack_quantized`] packs together; None if the blocks differ or there is nothing the
/// kernels know.
pub(super) fn packed(blocks: &[Arc<dyn QuantMethod>]) -> Result<Option<ChainWeights>> {
    let devices = blocks.iter().map(device_of).collect::<Result<Vec<_>>>()?;
    if devices.iter().all(Device::is_cpu) {
        let quantized = blocks.iter().map(quantized).collect::<Result<Option<Vec<_>>>>()?;
        if let Some(quantized) = quantized {
            let alike = quantized.iter().all(|block| block.dtype() == quantized[0].dtype());
            return alike.then(|| ChainWeights::pack_quantized(&quantized)).transpose();
        }
    }
    let plain = blocks.iter().map(|block| block.unquant_weight_bias()).collect::<Option<Vec<_>>>();
    let plain = plain.filter(|_| devices.iter().all(colm_kernels::runs_on));
    plain.map(|plain| ChainWeights::pack(&plain)).transpose()
}

/// Where the host has a block.
///
/// Fails if the host could not quantize it, which it says by a panic.
fn device_of(block: &Arc<dyn QuantMethod>) -> Result<Device> {
    let device = catch(|| block.dtype_and_device().1);
    device.map_err(|why| Error::Msg(format!("the engine cannot quantize this model so: {why}")))
}

/// The weights of a block that the host has quantized to what the kernels know. It hands them out in
/// the form its UQFF files have: version, kind (0 for ggml's), length, whether there is a bias, dtype,
/// rank, the two dimensions, all u32 but for kind and bias; then the bytes.
fn quantized(block: &Arc<dyn QuantMethod>) -> Result<Option<QTensor>> {
    const HEADER: usize = 26;
    const GGML: u8 = 0;
    if !["gguf", "pending-isq"].contains(&block.name()) {
        return Ok(None);
    }
    // What cannot be written to such a file stays with the host.
    let Ok(uqff) = block.serialize() else { return Ok(None) };
    let Some((header, bytes)) = uqff.split_at_checked(HEADER) else { return Ok(None) };
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
    if header[4] != GGML || header[9] != 0 || number(14) != 2 {
        return Ok(None);
    }
    let dtype = match number(10) {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        _ => return Ok(None),
    };
    let shape = (number(18) as usize, number(22) as usize);
    let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype)?;
    QTensor::new(storage, shape).map(Some)
}

/// The host's linear layers with these weights and biases.
pub(super) fn as_blocks(weights: Unpacked) -> Result<Blocks> {
    let block = |weights: QuantMethodConfig| -> Result<Arc<dyn QuantMethod>> {
        match weights {
            QuantMethodConfig::Gguf { .. } => Ok(Arc::new(GgufMatMul::new(weights)?)),
            _ => Ok(Arc::new(UnquantLinear::new(weights)?)),
        }
    };
    match weights {
        Unpacked::Floats(weights) => {
            let weights = weights.into_iter().map(|(weight, bias)| {
                block(QuantMethodConfig::Unquantized(Linear::new(weight, bias)))
            });
            weights.collect()
        }
        Unpacked::Quantized(weights) => {
            let weights = weights.into_iter().map(|weight| {
                block(QuantMethodConfig::Gguf { q_weight: Arc::new(weight), b: None })
            });
            weights.collect()
        }
    }
}

/// One block on its input, in the input's dtype.
pub(super) fn block_forward(block: &Arc<dyn QuantMethod>, x: &Tensor) -> Result<Tensor> {
    match block.quantized_act_type() {
        Some(_) => block.forward_autocast(x),
        // Weights that stayed as they were want x in their dtype.
        None => block.forward(&x.to_dtype(block.dtype_and_device().0)?)?.to_dtype(x.dtype()),
    }
}

/// The weights of one chain on all it reads, as a chain of its own.
pub(super) fn packed_forward(weights: &ChainWeights, x: &Tensor) -> Result<Tensor> {
    let rows = ChainRows::same(1, x.dim(0)?);
    Ok(chain_linear(std::slice::from_ref(x), &rows, &[weights])?.remove(0).remove(0))
}

fn each_forward(weights: &[ChainWeights], prefixes: &[Tensor]) -> Result<Representation> {
    let outputs = weights.iter().zip(prefixes).map(|(weights, x)| packed_forward(weights, x));
    Ok(Representation::new(outputs.collect::<Result<_>>()?))
}

fn blocks_forward(blocks: &Blocks, prefixes: &[Tensor]) -> Result<Representation> {
    let outputs = blocks.iter().zip(prefixes).map(|(block, x)| block_forward(block, x));
    Ok(Representation::new(outputs.collect::<Result<_>>()?))
}

/// The weights of `layers` if they may go into one call of the kernels.
fn all_packed<const N: usize>(layers: [&ChainLinear; N]) -> Option<[&ChainWeights; N]> {
    let packed = layers.map(|layer| match layer {
        ChainLinear::Packed(weights) => Some(weights),
        ChainLinear::PackedEach(_) | ChainLinear::Blocks(_) => None,
    });
    let packed: Vec<_> = packed.into_iter().collect::<Option<_>>()?;
    let alike = packed.iter().all(|weights| weights.held_like(packed[0]));
    packed.try_into().ok().filter(|_| alike)
}

/// The N outputs of N layers.
fn exactly<const N: usize>(
    mut outputs: impl Iterator<Item = Representation>,
) -> [Representation; N] {
    std::array::from_fn(|_| outputs.next().unwrap_or_else(|| Representation::new(Vec::new())))
}

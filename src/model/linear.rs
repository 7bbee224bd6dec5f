//! ChainLinear (docs/spec.md#layers): weights packed for the kernels, or quantized weights of the host.

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

use super::active_rows::ActiveRows;
use super::representation::Representation;

/// The weights of a layer as the host holds them: one [`QuantMethod`] per chain, so that no k needs a slice of a
/// quantized matrix.
pub type HostLinears = Vec<Arc<dyn QuantMethod>>;

/// y_i = W_i x_<=i.
pub enum ChainLinear {
    /// Packed for the kernels: one call computes all chains.
    Packed(ChainWeights),
    /// Packed for the kernels, one call per chain. The host chooses the quantized type of a matrix by its width, so
    /// the chains of a layer may have different types.
    PackedPerChain(Vec<ChainWeights>),
    /// Quantized by the host, or going to be: one product per chain.
    Host(HostLinears),
}

impl ChainLinear {
    /// Loads the first `k` chains, or chain 1 alone for Air's keys and values. `vb` is at the projection's name.
    /// Weights that the host has not quantized are packed if `pack` is true.
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
        let linear = |i: usize| {
            let vb = vb.pp("chains").pp(i);
            linear_b(inputs.upto(i), outputs.of(i), config.has_bias(projection), quantization, vb)
        };
        let linears: HostLinears = owners.map(linear).collect::<Result<_>>()?;
        match unquantized(&linears)? {
            Some(weights) if pack => Ok(Self::Packed(ChainWeights::pack(&weights)?)),
            _ => Ok(Self::Host(linears)),
        }
    }

    /// Packs the weights after the host has quantized them, if the kernels support the result: a supported ggml
    /// type, or unquantized weights where the width of the matrix allows no quantization.
    pub fn pack_quantized(&mut self) -> Result<()> {
        let Self::Host(linears) = self else { return Ok(()) };
        if let Some(weights) = packed(linears)? {
            *self = Self::Packed(weights);
            return Ok(());
        }
        let per_chain = linears.iter().map(|linear| packed(std::slice::from_ref(linear)));
        if let Some(per_chain) = per_chain.collect::<Result<Option<_>>>()? {
            *self = Self::PackedPerChain(per_chain);
        }
        Ok(())
    }

    /// The outputs of each of `layers`, which all read `x`: of every chain that has rows and weights.
    pub fn forward<const N: usize>(
        layers: [&Self; N],
        x: &Representation,
        rows: &ActiveRows,
    ) -> Result<[Representation; N]> {
        if let Some(packed) = all_packed(layers) {
            let outputs = chain_linear(x.chains(), rows.chain_rows(), &packed)?;
            return Ok(exactly(outputs.into_iter().map(Representation::new)));
        }
        let prefixes = if layers.iter().all(|layer| matches!(layer, Self::Packed(_))) {
            Vec::new()
        } else {
            x.prefixes(rows)?
        };
        let outputs = layers.iter().map(|layer| match layer {
            Self::Packed(weights) => {
                let outputs = chain_linear(x.chains(), rows.chain_rows(), &[weights])?;
                Ok(Representation::new(outputs.into_iter().flatten().collect()))
            }
            Self::PackedPerChain(weights) => per_chain_forward(weights, &prefixes),
            Self::Host(linears) => host_forward(linears, &prefixes),
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

    /// The weights in the host's form, for the host to quantize. Packed weights are unpacked and stay unpacked.
    pub fn host_linears_mut(&mut self) -> Result<&mut HostLinears> {
        let unpacked = match self {
            Self::Packed(weights) => host_linears(weights.unpack()?)?,
            Self::PackedPerChain(weights) => {
                let linears = weights.iter().map(|weights| host_linears(weights.unpack()?));
                linears.collect::<Result<Vec<_>>>()?.concat()
            }
            Self::Host(linears) => return Ok(linears),
        };
        *self = Self::Host(unpacked);
        self.host_linears_mut()
    }
}

/// W_i and b_i.
type WeightAndBias = (Tensor, Option<Tensor>);

/// The weights and biases of `linears`; None if one of them is quantized, or on a device without kernels.
pub(super) fn unquantized(linears: &HostLinears) -> Result<Option<Vec<WeightAndBias>>> {
    let plain = |linear: &Arc<dyn QuantMethod>| {
        // For weights that wait to be quantized, `unquant_weight_bias` returns the original ones: check the name.
        let plain =
            linear.name() == "unquant-linear" && colm_kernels::supports_device(&device_of(linear)?);
        Ok(plain.then(|| linear.unquant_weight_bias()).flatten())
    };
    linears.iter().map(plain).collect()
}

/// `linears` packed together; None if their types differ, or if the kernels do not support their type.
pub(super) fn packed(linears: &[Arc<dyn QuantMethod>]) -> Result<Option<ChainWeights>> {
    let devices = linears.iter().map(device_of).collect::<Result<Vec<_>>>()?;
    if devices.iter().all(Device::is_cpu) {
        let quantized = linears.iter().map(quantized).collect::<Result<Option<Vec<_>>>>()?;
        if let Some(quantized) = quantized {
            let alike = quantized.iter().all(|weight| weight.dtype() == quantized[0].dtype());
            return alike.then(|| ChainWeights::pack_quantized(&quantized)).transpose();
        }
    }
    let plain = linears.iter().map(|linear| linear.unquant_weight_bias());
    let plain = plain.collect::<Option<Vec<_>>>();
    let plain = plain.filter(|_| devices.iter().all(colm_kernels::supports_device));
    plain.map(|plain| ChainWeights::pack(&plain)).transpose()
}

/// The device of the weights.
///
/// Fails if the host could not quantize them: the host panics in that case.
fn device_of(linear: &Arc<dyn QuantMethod>) -> Result<Device> {
    let device = catch(|| linear.dtype_and_device().1);
    device.map_err(|why| Error::Msg(format!("the engine cannot quantize this model: {why}")))
}

/// Weights that the host has quantized to a ggml type that the kernels support; None if it is another type.
///
/// The host has no accessor for them, so this reads their UQFF form: version, kind (0: ggml), length, whether there
/// is a bias, dtype, rank, the two dimensions (all u32 except kind and bias, which are bytes), then the data.
fn quantized(linear: &Arc<dyn QuantMethod>) -> Result<Option<QTensor>> {
    const HEADER: usize = 26;
    const GGML: u8 = 0;
    if !["gguf", "pending-isq"].contains(&linear.name()) {
        return Ok(None);
    }
    // Types that have no UQFF form stay with the host.
    let Ok(uqff) = linear.serialize() else { return Ok(None) };
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

/// `weights` as linear layers of the host.
pub(super) fn host_linears(weights: Unpacked) -> Result<HostLinears> {
    let linear = |weights: QuantMethodConfig| -> Result<Arc<dyn QuantMethod>> {
        match weights {
            QuantMethodConfig::Gguf { .. } => Ok(Arc::new(GgufMatMul::new(weights)?)),
            _ => Ok(Arc::new(UnquantLinear::new(weights)?)),
        }
    };
    match weights {
        Unpacked::Floats(weights) => {
            let weights = weights.into_iter().map(|(weight, bias)| {
                linear(QuantMethodConfig::Unquantized(Linear::new(weight, bias)))
            });
            weights.collect()
        }
        Unpacked::Quantized(weights) => {
            let weights = weights.into_iter().map(|weight| {
                linear(QuantMethodConfig::Gguf { q_weight: Arc::new(weight), b: None })
            });
            weights.collect()
        }
    }
}

/// The product of a linear layer of the host with `x`, in the dtype of `x`.
pub(super) fn linear_forward(linear: &Arc<dyn QuantMethod>, x: &Tensor) -> Result<Tensor> {
    match linear.quantized_act_type() {
        Some(_) => linear.forward_autocast(x),
        // Unquantized weights need x in their own dtype.
        None => linear.forward(&x.to_dtype(linear.dtype_and_device().0)?)?.to_dtype(x.dtype()),
    }
}

/// The product of the weights of one chain with `x`, all of that chain's inputs.
pub(super) fn packed_forward(weights: &ChainWeights, x: &Tensor) -> Result<Tensor> {
    let rows = ChainRows::same(1, x.dim(0)?);
    Ok(chain_linear(std::slice::from_ref(x), &rows, &[weights])?.remove(0).remove(0))
}

fn per_chain_forward(weights: &[ChainWeights], prefixes: &[Tensor]) -> Result<Representation> {
    let outputs = weights.iter().zip(prefixes).map(|(weights, x)| packed_forward(weights, x));
    Ok(Representation::new(outputs.collect::<Result<_>>()?))
}

fn host_forward(linears: &HostLinears, prefixes: &[Tensor]) -> Result<Representation> {
    let outputs = linears.iter().zip(prefixes).map(|(linear, x)| linear_forward(linear, x));
    Ok(Representation::new(outputs.collect::<Result<_>>()?))
}

/// The weights of `layers` if one kernel call can compute them all.
fn all_packed<const N: usize>(layers: [&ChainLinear; N]) -> Option<[&ChainWeights; N]> {
    let packed = layers.map(|layer| match layer {
        ChainLinear::Packed(weights) => Some(weights),
        ChainLinear::PackedPerChain(_) | ChainLinear::Host(_) => None,
    });
    let packed: Vec<_> = packed.into_iter().collect::<Option<_>>()?;
    let alike = packed.iter().all(|weights| weights.has_same_format(packed[0]));
    packed.try_into().ok().filter(|_| alike)
}

/// The N outputs of N layers.
fn exactly<const N: usize>(
    mut outputs: impl Iterator<Item = Representation>,
) -> [Representation; N] {
    std::array::from_fn(|_| outputs.next().unwrap_or_else(|| Representation::new(Vec::new())))
}

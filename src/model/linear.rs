//! ChainLinear (docs/spec.md#layers): weights packed for the kernels, or quantized weights of the host.

use candle_core::quantized::GgmlDType;
use candle_core::{Result, Tensor};
use colm_kernels::{
    chain_gated, chain_linear, chain_linear_add, silu_mul, ChainRows, ChainWeights,
    MatmulPrecision, Unpacked,
};

use super::active_rows::ActiveRows;
use super::host_linears::{host_linears, linear_forward, pack_linears, HostLinears, WeightAndBias};
use super::representation::Representation;
use super::weight_source::{LoadedLinear, Packing};

/// y_i = W_i x_<=i + b_i.
pub enum ChainLinear {
    /// Packed for the kernels: one call computes all chains.
    Packed(ChainWeights),
    /// Packed for the kernels, one call per chain, because the chains of a layer have different dtypes or quantized types.
    /// The quantized type depends on the width of a matrix.
    PackedPerChain(Vec<ChainWeights>),
    /// Quantized by the host, or going to be: one product per chain.
    Host(HostLinears),
}

impl ChainLinear {
    /// From the weights of every chain that has some, chain 1 first. Packed weights multiply activations at `precision`.
    ///
    /// # Errors
    /// If there are no chains, or if shapes or types do not match.
    pub fn new(
        loaded: Vec<LoadedLinear>,
        packing: Packing,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        match floats(loaded) {
            Ok(weights) if packing != Packing::Unpacked => Self::pack(weights, packing, precision),
            Ok(weights) => Ok(Self::Host(host_linears(Unpacked::Floats(weights))?)),
            Err(loaded) => {
                let linears = loaded.into_iter().map(|linear| match linear {
                    LoadedLinear::Host(linear) => Ok(linear),
                    LoadedLinear::Floats(weight, bias) => {
                        Ok(host_linears(Unpacked::Floats(vec![(weight, bias)]))?.remove(0))
                    }
                });
                linears.collect::<Result<_>>().map(Self::Host)
            }
        }
    }

    fn pack(
        weights: Vec<WeightAndBias>,
        packing: Packing,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        // The quantized type or, of weights that are not quantized, the dtype.
        let formats = weights.iter().map(|(weight, _)| {
            let quantized = packing.quantized_type(weight.dim(1)?);
            Ok((quantized, quantized.is_none().then(|| weight.dtype())))
        });
        let formats = formats.collect::<Result<Vec<_>>>()?;
        if formats.windows(2).all(|pair| pair[0] == pair[1]) {
            let quantized = formats.first().and_then(|(quantized, _)| *quantized);
            return pack(&weights, quantized, precision).map(Self::Packed);
        }
        let per_chain = weights.iter().zip(formats).map(|(weight, (quantized, _))| {
            pack(std::slice::from_ref(weight), quantized, precision)
        });
        per_chain.collect::<Result<_>>().map(Self::PackedPerChain)
    }

    /// Packs the weights after the host has quantized them, if the kernels support the result: a supported ggml
    /// type, or unquantized weights where the width of the matrix allows no quantization.
    pub fn pack_quantized(&mut self, precision: MatmulPrecision) -> Result<()> {
        let Self::Host(linears) = self else { return Ok(()) };
        if let Some(weights) = pack_linears(linears, precision)? {
            *self = Self::Packed(weights);
            return Ok(());
        }
        let per_chain =
            linears.iter().map(|linear| pack_linears(std::slice::from_ref(linear), precision));
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

/// The weights if all of them are floats, else `loaded` as it is.
fn floats(loaded: Vec<LoadedLinear>) -> std::result::Result<Vec<WeightAndBias>, Vec<LoadedLinear>> {
    if loaded.iter().any(|linear| matches!(linear, LoadedLinear::Host(_))) {
        return Err(loaded);
    }
    let weights = loaded.into_iter().filter_map(|linear| match linear {
        LoadedLinear::Floats(weight, bias) => Some((weight, bias)),
        LoadedLinear::Host(_) => None,
    });
    Ok(weights.collect())
}

/// Packs `weights`, quantized to `dtype` or, if it is None, as they are.
pub(super) fn pack(
    weights: &[WeightAndBias],
    dtype: Option<GgmlDType>,
    precision: MatmulPrecision,
) -> Result<ChainWeights> {
    match dtype {
        Some(dtype) => ChainWeights::quantize(weights, dtype, precision),
        None => ChainWeights::pack_floats(weights, precision),
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

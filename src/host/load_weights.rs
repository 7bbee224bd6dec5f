//! Loads the weights: on the CPU from the files of the checkpoint, else through the host.

use anyhow::{anyhow, bail, Context, Result};
use candle_core::{DType, Device};
use colm_checkpoint::json::in_words;
use colm_checkpoint::panics::catch;
use colm_checkpoint::{ChainCount, Checkpoint, ColmConfig, ModelConfig, TensorId};
use mistralrs_core::ext::NormalLoadingMetadata;
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::dense::as_chain_layout;
use super::dtype::Quantization;
use super::host_types;
use super::load_bar::LoadBar;
use super::loader::ColmLoader;
use super::memory;
use super::weight_sizes::{held_bytes, weight_sizes, WeightSizes};
use crate::model::{CheckpointSource, Colm, HostSource, LoadOptions, Packing};

impl ColmLoader {
    /// Adds the quantization, if there is one, to `error`.
    fn with_quantization(&self, error: candle_core::Error) -> anyhow::Error {
        match self.quantization {
            Some(quantization) => {
                anyhow::Error::from(error).context(format!("`quantization` {quantization}"))
            }
            None => error.into(),
        }
    }

    /// How weights on the CPU are held: quantized, if the kernels support the type.
    pub(super) fn packing(&self) -> Packing {
        match self.quantization.and_then(Quantization::ggml) {
            Some(dtype) => Packing::Quantized(dtype),
            None => Packing::AsLoaded,
        }
    }

    /// Fails if the model needs more memory than is available. Runs before the weights are read.
    fn check_memory(&self, weights: usize, device: &Device) -> Result<()> {
        let kv_cache = self.kv_pool.map_or(0, |pool| pool.bytes());
        Ok(memory::check(weights, kv_cache, device)?)
    }

    /// Loads from the files of `checkpoint` on the CPU.
    pub(super) fn load_checkpoint(
        &self,
        (config, k): (&ColmConfig, ChainCount),
        checkpoint: &Checkpoint,
        (max_tokens, kv_dtype): (usize, DType),
    ) -> Result<Colm> {
        let packing = self.packing();
        let weights = held_bytes(config, checkpoint, self.weight_dtype, packing);
        self.check_memory(weights, &Device::Cpu)?;
        let source = CheckpointSource::new(checkpoint, self.weight_dtype);
        let matmul_precision = self.matmul_precision.unwrap_or_default();
        let options = LoadOptions { max_tokens, kv_dtype, packing, matmul_precision };
        let bar = LoadBar::new(config.file.num_hidden_layers, self.progress_bar);
        let colm = Colm::load(config, k, &source, &options, &|layers| bar.show(layers));
        colm.map_err(|error| self.with_quantization(error))
    }

    /// How the checkpoint is quantized; None if it is not. Fails if an option cannot be combined with it.
    pub(super) fn quantization_of(&self, config: &ColmConfig) -> Result<Option<QuantizedConfig>> {
        let stored = quantization(config)?;
        if let (Some(asked), Some(_)) = (self.quantization, &stored) {
            bail!(
                "`quantization` {asked}: the weights are quantized already, as `quantization_config` in config.json \
                 says; expected no `quantization`"
            );
        }
        if let (Some(asked), Some(_)) = (self.matmul_precision, &stored) {
            bail!(
                "`matmul_precision` {asked}: the weights are quantized already, as `quantization_config` in \
                 config.json says, and the host (mistral.rs) multiplies them in its own precision; expected no \
                 `matmul_precision`"
            );
        }
        Ok(stored)
    }

    /// The bytes of the weights as the host holds them. `quantization` is that of the checkpoint.
    pub(super) fn bytes_of_host(
        &self,
        config: &ColmConfig,
        k: ChainCount,
        dtype: DType,
        quantization: Option<&QuantizedConfig>,
    ) -> usize {
        let pack_factor = match (self.quantization, quantization) {
            (Some(quantization), _) => quantization.isq().pack_factor(dtype),
            // `pack_factor` panics on unknown numbers of bits. Loading rejects them later.
            (None, Some(quantization)) => catch(|| quantization.pack_factor(dtype)).unwrap_or(1),
            (None, None) => 1,
        };
        let WeightSizes { layers, outside_layers } =
            weight_sizes(config, k, dtype, pack_factor.max(1));
        layers.iter().sum::<usize>() + outside_layers
    }

    /// Loads through the host's var builder: onto a GPU, in the host's quantized formats, or to be quantized by it.
    pub(super) fn load_through_host(
        &self,
        (model, k): (&ModelConfig, ChainCount),
        vb: ShardedVarBuilder,
        loading: &NormalLoadingMetadata,
        max_tokens: usize,
    ) -> Result<Colm> {
        let config = model.colm();
        let quantization = self.quantization_of(config)?;
        let (device, kv_dtype) = (&loading.real_device, vb.dtype());
        if let Some(quantization) = self.quantization {
            host_types::check(config, k, quantization)?;
        }
        let vb = match self.weight_dtype.filter(|_| device.is_cpu()) {
            Some(dtype) => vb.set_dtype(dtype),
            None => vb,
        };
        let weights = self.bytes_of_host(config, k, vb.dtype(), quantization.as_ref());
        self.check_memory(weights, device)?;
        let vb = if vb.contains_tensor(&TensorId::Embedding.chain_name(0)) {
            vb
        } else if quantization.is_some() {
            bail!("`quantization_config`: a quantized checkpoint must be in the chain layout")
        } else {
            as_chain_layout(model, vb)
        };
        let placed = |layer: Option<usize>, loading_isq| match layer {
            Some(layer) => loading.mapper.set_device(layer, vb.clone(), loading_isq),
            None => loading.mapper.set_nm_device(vb.clone(), loading_isq),
        };
        let source = HostSource {
            linears: &|layer| placed(layer, loading.loading_isq),
            full_precision: &|layer| placed(layer, false),
            quantization: &quantization,
        };
        let packing = if loading.loading_isq { Packing::Unpacked } else { Packing::AsLoaded };
        let matmul_precision = self.matmul_precision.unwrap_or_default();
        let options = LoadOptions { max_tokens, kv_dtype, packing, matmul_precision };
        let colm = Colm::load(config, k, &source, &options, &|_| ());
        colm.map_err(|error| self.with_quantization(error))
    }
}

/// How the checkpoint is quantized, in a format of the host; None if it is not.
pub(super) fn quantization(config: &ColmConfig) -> Result<Option<QuantizedConfig>> {
    let field = config.file.other.get("quantization_config").filter(|value| !value.is_null());
    let parsed = field.map(|value| serde_json::from_value(value.clone()));
    let parsed = parsed.transpose().map_err(|error| anyhow!(in_words(&error.to_string())));
    parsed.context("config.json: `quantization_config`")
}

//! The whole model: the tokens of a step in, logits out.

use std::sync::Arc;

use candle_core::{bail, DType, Device, Result, Tensor};
use colm_checkpoint::{ChainCount, ColmConfig, TensorId};
use colm_kernels::{KvBlocks, Llama3Scaling, MatmulPrecision, Rope};

use super::active_rows::ActiveRows;
use super::decoder_layer::DecoderLayer;
use super::embedding::ChainEmbedding;
use super::lm_head::LmHead;
use super::norm::ChainRmsNorm;
use super::representation::Representation;
use super::step::{SequenceInput, Step};
use super::weight_source::{LoadOptions, Packing, WeightSource, Weights};

/// The first k chains of a CoLM or CoLM-Air, ready to run.
pub struct Colm {
    /// E.
    pub embed_tokens: ChainEmbedding,
    /// The decoder layers.
    pub layers: Vec<DecoderLayer>,
    /// The norm before the LM head.
    pub norm: ChainRmsNorm,
    /// U.
    pub lm_head: LmHead,
    config: ColmConfig,
    chain_count: ChainCount,
    device: Device,
    kv_dtype: DType,
}

impl Colm {
    /// Loads the first `k` chains from `source`. `on_layer` is called with the number of layers loaded so far.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        config: &ColmConfig,
        k: ChainCount,
        source: &dyn WeightSource,
        options: &LoadOptions,
        on_layer: &dyn Fn(usize),
    ) -> Result<Self> {
        let packing = options.packing;
        let precision = options.matmul_precision;
        let weights = Weights { config, k: k.get(), source, packing, precision };
        let mut embed_tokens = ChainEmbedding::new(weights.tensors(TensorId::Embedding)?);
        let lm_head = if config.file.tie_word_embeddings {
            LmHead::tied(&mut embed_tokens, config.file.vocab_size, packing, precision)?
        } else {
            let head = weights.linears(TensorId::Head)?;
            LmHead::new(head, config.file.vocab_size, packing, precision)?
        };
        let rope = Arc::new(rope(config, options.max_tokens)?);
        let layer = |layer: usize| {
            on_layer(layer);
            DecoderLayer::load(&weights, layer, rope.clone())
        };
        let mut colm = Self {
            layers: (0..config.file.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: weights.norm(TensorId::FinalNorm)?,
            embed_tokens,
            lm_head,
            config: config.clone(),
            chain_count: k,
            device: source.device(None),
            kv_dtype: options.kv_dtype,
        };
        on_layer(config.file.num_hidden_layers);
        if packing != Packing::Unpacked {
            colm.pack_quantized(precision)?;
        }
        Ok(colm)
    }

    /// Packs the weights that the host has quantized. The host quantizes on other threads while it loads, so this
    /// waits until every layer has been handed to it.
    fn pack_quantized(&mut self, precision: MatmulPrecision) -> Result<()> {
        self.lm_head.pack_quantized(precision)?;
        let mut linears = self.layers.iter_mut().flat_map(DecoderLayer::linears_mut);
        linears.try_for_each(|linear| linear.pack_quantized(precision))
    }

    /// The config of the whole checkpoint, of which the first chains are loaded.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// The number of chains loaded.
    pub fn chain_count(&self) -> ChainCount {
        self.chain_count
    }

    /// The device of the embedding and the LM head: tokens are read and logits are returned there.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dtype of the KV cache.
    pub fn kv_dtype(&self) -> DType {
        self.kv_dtype
    }

    /// A KV cache of zeros for this model, one per layer, with `blocks` blocks of `block_size` positions: for steps
    /// outside the engine's cache.
    pub fn new_kv_cache(&self, blocks: usize, block_size: usize) -> Result<Vec<KvBlocks>> {
        let heads = self.config.kv_heads.first(self.chain_count.get());
        let dim = self.config.head_dim;
        let layer = |_: &DecoderLayer| {
            let keys = (blocks, heads, dim, block_size, 1);
            let keys = Tensor::zeros(keys, self.kv_dtype, &self.device)?;
            let values =
                Tensor::zeros((blocks, heads, dim, block_size), self.kv_dtype, &self.device)?;
            KvBlocks::from_tensors(&keys, &values, dim)
        };
        self.layers.iter().map(layer).collect()
    }

    /// A step of this model on `sequences`, whose keys and values are in blocks of `block_size` positions.
    ///
    /// # Errors
    /// As [`Step::new`].
    pub fn step(&self, sequences: Vec<SequenceInput>, block_size: usize) -> Result<Step> {
        Step::new(sequences, block_size, &self.config.kv_heads)
    }

    /// The logits that the step requests, `[rows, vocab_size]` f32 in the order of the step, each row at the chain
    /// count of its sequence. Keys and values of the step's rows are written to `kv`, one per layer.
    ///
    /// # Errors
    /// If a sequence needs more chains than are loaded.
    pub fn forward(&self, step: &Step, kv: &[KvBlocks]) -> Result<Tensor> {
        let (z, rows) = self.hidden(step, kv)?;
        self.lm_head.forward(&z, &rows)
    }

    /// The input of the LM head at the rows whose logits the step requests, and these rows. Otherwise as
    /// [`Self::forward`].
    pub fn hidden(&self, step: &Step, kv: &[KvBlocks]) -> Result<(Representation, ActiveRows)> {
        let rows = &step.active;
        if rows.chain_count() > self.chain_count.get() {
            let needed = rows.chain_count();
            bail!("the step needs {needed} chains; {} are loaded", self.chain_count);
        }
        if kv.len() != self.layers.len() {
            bail!("{} layers of KV blocks for {} layers", kv.len(), self.layers.len());
        }
        let mut x = self.embed_tokens.forward(step)?;
        for (index, (layer, kv)) in self.layers.iter().zip(kv).enumerate() {
            let outputs = step.outputs(index + 1 == self.layers.len());
            x = layer.forward(&x, step, outputs, kv)?;
        }
        let x = self.norm.forward(&x.to_device(&self.device)?)?;
        Ok((x, step.outputs(true).rows.clone()))
    }

    /// The logits at `selected`, which are some of `rows`, the rows of `z` (see [`Self::hidden`]).
    pub fn logits(
        &self,
        z: &Representation,
        rows: &ActiveRows,
        selected: &ActiveRows,
    ) -> Result<Tensor> {
        self.lm_head.forward(&z.select(rows, selected)?, selected)
    }
}

fn rope(config: &ColmConfig, positions: usize) -> Result<Rope> {
    let scaling = config.rope_scaling.map(|scaling| Llama3Scaling {
        factor: scaling.factor,
        low_freq_factor: scaling.low_freq_factor,
        high_freq_factor: scaling.high_freq_factor,
        original_max_position_embeddings: scaling.original_max_position_embeddings as f64,
    });
    Rope::new(config.head_dim, config.file.rope_theta, positions, scaling)
}

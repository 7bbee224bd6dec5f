//! The whole model: tokens of a step in, logits out.

use std::sync::Arc;

use candle_core::{bail, DType, Device, Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::{KvBlocks, Llama3Scaling, Rope};
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::block::Block;
use super::head::ChainHead;
use super::layers::{ChainEmbedding, ChainRmsNorm};
use super::linear::ChainLinear;
use super::representation::Representation;
use super::rows::{ActiveRows, Step};
use super::source::Source;

/// The first k chains of a CoLM or CoLM-Air, ready to run.
pub struct Colm {
    pub embedding: ChainEmbedding,
    pub blocks: Vec<Block>,
    pub norm: ChainRmsNorm,
    pub head: ChainHead,
    chains: usize,
    device: Device,
    dtype: DType,
}

/// Where the loader wants the weights of each part.
pub struct Placed<'a> {
    /// Weights that may be quantized while loading.
    pub linears: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// Weights that stay as they are, on the device that computes.
    pub others: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// Whether the host is going to quantize the linear layers once they are loaded: then they stay
    /// as it holds them, one by one.
    pub quantized_later: bool,
}

impl Colm {
    /// Loads the first `k` chains, for sequences of up to `longest` tokens. `placed` gives the root of the tensor
    /// names (docs/spec.md#chain-layout) for a layer, or for the parts outside the layers.
    pub fn load(
        config: &ColmConfig,
        k: usize,
        longest: usize,
        quantization: &Option<QuantizedConfig>,
        placed: &Placed<'_>,
    ) -> Result<Self> {
        let root = (placed.others)(None);
        let pack = colm_kernels::runs_on(root.device()) && !placed.quantized_later;
        let mut embedding = ChainEmbedding::load(config, k, &root.pp("model.embed_tokens"))?;
        let head = match config.file.tie_word_embeddings {
            true => ChainHead::tied(&mut embedding, pack)?,
            false => {
                let vb = (placed.linears)(None).pp("lm_head");
                ChainHead::load(config, k, quantization, pack, &vb)?
            }
        };
        let rope = Arc::new(rope(config, longest)?);
        let block = |layer: usize| {
            let name = format!("model.layers.{layer}");
            let linears = (placed.linears)(Some(layer)).pp(&name);
            let others = (placed.others)(Some(layer)).pp(&name);
            let source = Source { config, quantization, pack, linears, others };
            Block::load(&source, k, rope.clone())
        };
        let mut colm = Self {
            blocks: (0..config.file.num_hidden_layers).map(block).collect::<Result<_>>()?,
            norm: ChainRmsNorm::load(config, k, &root.pp("model.norm"))?,
            embedding,
            head,
            chains: k,
            device: root.device().clone(),
            dtype: root.dtype(),
        };
        if pack {
            colm.pack_quantized()?;
        }
        Ok(colm)
    }

    /// The host quantizes while it loads, on other threads: what it has made of the blocks is packed
    /// when all of them are on their way.
    fn pack_quantized(&mut self) -> Result<()> {
        self.head.pack_quantized()?;
        let mut linears = self.blocks.iter_mut().flat_map(Block::linears_mut);
        linears.try_for_each(ChainLinear::pack_quantized)
    }

    /// The number of chains loaded.
    pub fn chains(&self) -> usize {
        self.chains
    }

    /// Where tokens come in and logits go out.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the weights were loaded as.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The logits asked for, `[rows, vocab_size]` f32 in the order of the step, each row at the chain
    /// count of its sequence. Keys and values of the step's rows are written to `kv`, one per layer.
    ///
    /// Fails if a sequence asks for more chains than are loaded.
    pub fn forward(&self, step: &Step, kv: &[KvBlocks]) -> Result<Tensor> {
        let (z, asked) = self.hidden(step, kv)?;
        self.head.forward(&z, &asked)
    }

    /// What the head reads at the rows whose logits are asked for, and these rows; otherwise as
    /// [`Self::forward`].
    pub fn hidden(&self, step: &Step, kv: &[KvBlocks]) -> Result<(Representation, ActiveRows)> {
        let rows = &step.active;
        if rows.chains() > self.chains {
            bail!("{} chains asked for, {} are loaded", rows.chains(), self.chains);
        }
        if kv.len() != self.blocks.len() {
            bail!("{} layers of KV blocks for {} layers", kv.len(), self.blocks.len());
        }
        let mut x = self.embedding.forward(step)?;
        for (block, kv) in self.blocks.iter().zip(kv) {
            x = block.forward(&x, step, kv)?;
        }
        let asked = step.active.at_logits()?;
        let x = x.to_device(&self.device)?.select(&step.active, &asked)?;
        Ok((self.norm.forward(&x)?, asked))
    }

    /// The logits at `asked`, some of the `rows` at which `z` is what the head reads.
    pub fn logits(
        &self,
        z: &Representation,
        rows: &ActiveRows,
        asked: &ActiveRows,
    ) -> Result<Tensor> {
        self.head.forward(&z.select(rows, asked)?, asked)
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

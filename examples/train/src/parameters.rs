//! The parameters of a model in the dense layout, and the block of each that a chain owns.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device, Tensor};
use colm_checkpoint::{ColmConfig, Split};

use crate::chain_model::Blocks;

/// How a parameter is split into chains.
#[derive(Clone, Debug)]
pub enum Axes {
    /// `[vocab, hidden]`: chain i owns the columns `hidden_i` (embedding and head).
    Vocabulary(usize, Split),
    /// `[out, in]`: chain i owns the rows `out_i` and the columns `in_<=i`.
    Linear(Split, Split),
    /// `[width]`: chain i owns the range `width_i` (norms and biases).
    Vector(Split),
}

/// A parameter of the dense layout (docs/spec.md#dense-layout).
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The module, such as `model.layers.0.mlp.up_proj`.
    pub module: String,
    /// `weight` or `bias`.
    pub leaf: &'static str,
    /// The shape and the split into chains.
    pub axes: Axes,
}

impl Parameter {
    fn new(module: impl Into<String>, leaf: &'static str, axes: Axes) -> Self {
        Self { module: module.into(), leaf, axes }
    }

    /// The name in the dense layout.
    pub fn name(&self) -> String {
        format!("{}.{}", self.module, self.leaf)
    }

    /// The name of chain `i`'s block in the chain layout.
    pub fn chain_name(&self, i: usize) -> String {
        format!("{}.chains.{i}.{}", self.module, self.leaf)
    }

    /// The range of chain `i`'s block on each axis of the dense tensor; `None` if the chain has no block (Air's keys
    /// and values after chain 1).
    pub fn block(&self, i: usize) -> Option<Vec<Range<usize>>> {
        let ranges = match &self.axes {
            Axes::Vocabulary(vocab, hidden) => vec![0..*vocab, hidden.range(i)],
            Axes::Linear(output, input) => vec![output.range(i), 0..input.upto(i)],
            Axes::Vector(split) => vec![split.range(i)],
        };
        ranges.iter().all(|range| !range.is_empty()).then_some(ranges)
    }

    /// Chain `i`'s block of the dense tensor; `None` if it has none.
    pub fn cut(&self, dense: &Tensor, i: usize) -> Result<Option<Tensor>> {
        let Some(ranges) = self.block(i) else {
            return Ok(None);
        };
        let mut block = dense.clone();
        for (axis, range) in ranges.iter().enumerate() {
            block = block.narrow(axis, range.start, range.len())?;
        }
        Ok(Some(block.contiguous()?))
    }

    /// The dense tensor from the blocks of all chains, which `block` returns by chain; zeros elsewhere.
    pub fn join(&self, chains: usize, block: impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
        let mut blocks = Vec::new();
        for i in 0..chains {
            let Some(ranges) = self.block(i) else {
                continue;
            };
            let tensor = block(i)?;
            let expected: Vec<usize> = ranges.iter().map(Range::len).collect();
            if tensor.dims() != expected {
                let name = self.chain_name(i);
                bail!("{name} has shape {:?}; expected {expected:?}", tensor.dims());
            }
            blocks.push(match &self.axes {
                Axes::Linear(_, input) => {
                    tensor.pad_with_zeros(1, 0, input.total() - ranges[1].end)?
                }
                _ => tensor,
            });
        }
        let axis = usize::from(matches!(self.axes, Axes::Vocabulary(..)));
        Ok(Tensor::cat(&blocks, axis)?)
    }

    /// 1 where a chain owns the entry, 0 elsewhere; f32.
    pub fn mask(&self, chains: usize) -> Result<Tensor> {
        self.join(chains, |i| {
            let ranges = self.block(i).unwrap_or_default();
            let shape: Vec<usize> = ranges.iter().map(Range::len).collect();
            Ok(Tensor::ones(shape, DType::F32, &Device::Cpu)?)
        })
    }
}

/// All parameters of the model that `config` describes, in a fixed order.
pub fn parameters(config: &ColmConfig) -> Vec<Parameter> {
    let file = &config.file;
    let (hidden, intermediate) = (&config.hidden, &config.intermediate);
    let heads = config.heads.scaled(config.head_dim);
    let kv_heads = config.kv_heads.scaled(config.head_dim);
    let vocabulary = |module| {
        Parameter::new(module, "weight", Axes::Vocabulary(file.vocab_size, hidden.clone()))
    };
    let vector = |module: String, split| Parameter::new(module, "weight", Axes::Vector(split));
    let norm = |module| vector(module, hidden.clone());

    let mut all = vec![vocabulary("model.embed_tokens")];
    for layer in 0..file.num_hidden_layers {
        let layer = format!("model.layers.{layer}");
        all.push(norm(format!("{layer}.input_layernorm")));
        all.push(norm(format!("{layer}.post_attention_layernorm")));
        if file.qk_norm {
            all.push(vector(format!("{layer}.self_attn.q_norm"), config.query_norm()));
            all.push(vector(format!("{layer}.self_attn.k_norm"), config.key_norm()));
        }
        for (projection, output, input, bias) in [
            ("self_attn.q_proj", &heads, hidden, file.attention_bias),
            ("self_attn.k_proj", &kv_heads, hidden, file.attention_bias),
            ("self_attn.v_proj", &kv_heads, hidden, file.attention_bias),
            ("self_attn.o_proj", hidden, &heads, file.attention_bias),
            ("mlp.gate_proj", intermediate, hidden, file.mlp_bias),
            ("mlp.up_proj", intermediate, hidden, file.mlp_bias),
            ("mlp.down_proj", hidden, intermediate, file.mlp_bias),
        ] {
            let module = format!("{layer}.{projection}");
            let axes = Axes::Linear(output.clone(), input.clone());
            all.push(Parameter::new(&module, "weight", axes));
            if bias {
                all.push(Parameter::new(&module, "bias", Axes::Vector(output.clone())));
            }
        }
    }
    all.push(norm("model.norm".into()));
    if !file.tie_word_embeddings {
        all.push(vocabulary("lm_head"));
    }
    all
}

/// The tensors of the dense layout by name, from the blocks of the chain layout.
pub fn dense(config: &ColmConfig, blocks: &Blocks) -> Result<HashMap<String, Tensor>> {
    let chains = config.chains.count();
    let joined = parameters(config).into_iter().map(|parameter| {
        let tensor = parameter.join(chains, |i| {
            let name = parameter.chain_name(i);
            blocks.get(&name).cloned().with_context(|| format!("no tensor {name}"))
        })?;
        Ok((parameter.name(), tensor))
    });
    joined.collect()
}

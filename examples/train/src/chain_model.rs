//! The model that is trained: docs/spec.md#layers chain by chain, with one tensor per block of the chain layout.
//!
//! Blocks above the block diagonal do not exist and are not computed. A block that is not a variable is frozen. If all
//! blocks of a chain and of the chains before it are frozen, autograd records nothing for that chain and skips it in
//! the backward pass.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use colm_checkpoint::{ColmConfig, Projection, TensorId};

use crate::fused::{
    AttentionWeights, Concat, Linear, MergeHeads, RmsNorm, Rotation, SplitHeads, SwiGlu,
};
use crate::positions::Rope;

/// The tensors of all chains by name in the chain layout (docs/spec.md#chain-layout), f32.
pub type Blocks = HashMap<String, Tensor>;

/// A CoLM, a CoLM-Air or, with one chain, a Llama. Computes all chains at all positions.
pub struct ChainModel {
    config: ColmConfig,
    /// E_i `[vocab, hidden_i]`
    embedding: Vec<Tensor>,
    layers: Vec<Layer>,
    norm: ChainNorm,
    /// U_i `[vocab, hidden_i]`
    head: Vec<Tensor>,
    rope: Rope,
}

impl ChainModel {
    /// Builds the model from `blocks`; fails if one is missing or has the wrong shape.
    pub fn new(config: &ColmConfig, blocks: &Blocks) -> Result<Self> {
        let lookup = BlockLookup { config, blocks };
        let embedding = lookup.blocks_of(TensorId::Embedding)?;
        let head = if config.file.tie_word_embeddings {
            embedding.clone()
        } else {
            lookup.blocks_of(TensorId::Head)?
        };
        let layers = 0..config.file.num_hidden_layers;
        Ok(Self {
            config: config.clone(),
            embedding,
            layers: layers.map(|layer| Layer::new(&lookup, layer)).collect::<Result<_>>()?,
            norm: ChainNorm::new(&lookup, TensorId::FinalNorm)?,
            head,
            rope: Rope::new(config)?,
        })
    }

    /// The config of the model.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// Token ids `[batch, tokens]` (u32) to z_1 .. z_n of docs/spec.md#layers, each `[batch * tokens, hidden_i]`.
    /// Every sequence starts at position 0.
    pub fn forward(&self, tokens: &Tensor) -> Result<Vec<Tensor>> {
        let (batch, length) = tokens.dims2()?;
        let longest = self.config.file.max_position_embeddings;
        if length > longest {
            candle_core::bail!("{length} tokens; max_position_embeddings = {longest}");
        }
        let ids = tokens.flatten_all()?;
        let embed = |table: &Tensor| table.embedding(&ids);
        let mut x = self.embedding.iter().map(embed).collect::<Result<Vec<_>>>()?;
        let sequences = Sequences { batch, rotation: self.rope.first(length)?.rotation()? };
        for layer in &self.layers {
            x = layer.forward(&x, &sequences)?;
        }
        self.norm.forward(&x)
    }

    /// The logits at 1, 2, .. n chains, each `[rows, vocab]`, from z_1 .. z_n `[rows, hidden_i]`: a running sum over
    /// the chains.
    pub fn logits(&self, z: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut logits: Vec<Tensor> = Vec::with_capacity(z.len());
        for (z, head) in z.iter().zip(&self.head) {
            let term = z.apply_op2(head, Linear)?;
            logits.push(match logits.last() {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        Ok(logits)
    }
}

/// Looks blocks up by the names in the config.
struct BlockLookup<'a> {
    config: &'a ColmConfig,
    blocks: &'a Blocks,
}

impl BlockLookup<'_> {
    /// The blocks of tensor `id` by chain. Air's key and value projections have one block.
    fn blocks_of(&self, id: TensorId) -> Result<Vec<Tensor>> {
        let chains = 0..self.config.chains.count();
        let owned = chains.filter_map(|i| self.config.chain_tensor(id, i));
        owned
            .map(|tensor| match self.blocks.get(&tensor.name()) {
                Some(block) if block.dims() == tensor.shape() => Ok(block.clone()),
                Some(block) => candle_core::bail!(
                    "{} has shape {:?}; expected {:?}",
                    tensor.name(),
                    block.dims(),
                    tensor.shape()
                ),
                None => candle_core::bail!("no tensor {}", tensor.name()),
            })
            .collect()
    }
}

/// The number of sequences in the batch and the RoPE tables.
struct Sequences {
    batch: usize,
    rotation: Rotation,
}

/// The inputs x_<=1 .. x_<=n of the chains. Each is a copy, so that inputs from frozen chains stay outside the autograd
/// graph of the trained ones.
fn prefixes(x: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut prefixes: Vec<Tensor> = Vec::with_capacity(x.len());
    for x in x {
        prefixes.push(match prefixes.last() {
            Some(before) => before.apply_op2(x, Concat)?,
            None => x.clone(),
        });
    }
    Ok(prefixes)
}

/// x_i + y_i for every chain.
fn add(x: &[Tensor], y: &[Tensor]) -> Result<Vec<Tensor>> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

struct Layer {
    input_norm: ChainNorm,
    attention: Attention,
    post_attention_norm: ChainNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(lookup: &BlockLookup, layer: usize) -> Result<Self> {
        Ok(Self {
            input_norm: ChainNorm::new(lookup, TensorId::InputNorm { layer })?,
            attention: Attention::new(lookup, layer)?,
            post_attention_norm: ChainNorm::new(lookup, TensorId::PostAttentionNorm { layer })?,
            mlp: Mlp::new(lookup, layer)?,
        })
    }

    fn forward(&self, x: &[Tensor], sequences: &Sequences) -> Result<Vec<Tensor>> {
        let x = add(x, &self.attention.forward(&self.input_norm.forward(x)?, sequences)?)?;
        add(&x, &self.mlp.forward(&self.post_attention_norm.forward(&x)?)?)
    }
}

/// y_i = W_i x_<=i + b_i
struct ChainLinear {
    /// W_i `[out_i, in_<=i]`
    weights: Vec<Tensor>,
    /// b_i `[out_i]`; empty without biases.
    biases: Vec<Tensor>,
}

impl ChainLinear {
    fn new(lookup: &BlockLookup, layer: usize, projection: Projection) -> Result<Self> {
        let biases = if lookup.config.has_bias(projection) {
            lookup.blocks_of(TensorId::Bias { layer, projection })?
        } else {
            Vec::new()
        };
        Ok(Self { weights: lookup.blocks_of(TensorId::Weight { layer, projection })?, biases })
    }

    /// [`prefixes`] of the input, each `[rows, in_<=i]`, to y_i `[rows, out_i]` for every block.
    fn forward(&self, prefixes: &[Tensor]) -> Result<Vec<Tensor>> {
        let blocks = self.weights.iter().zip(prefixes).enumerate();
        blocks
            .map(|(i, (weight, x))| {
                let y = x.apply_op2(weight, Linear)?;
                self.biases.get(i).map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
            })
            .collect()
    }
}

/// RMSNorm with the mean taken over each chain.
struct ChainNorm {
    /// `[hidden_i]`
    weights: Vec<Tensor>,
    eps: f64,
}

impl ChainNorm {
    fn new(lookup: &BlockLookup, id: TensorId) -> Result<Self> {
        Ok(Self { weights: lookup.blocks_of(id)?, eps: lookup.config.file.rms_norm_eps })
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let norm = |(x, weight): (&Tensor, &Tensor)| {
            x.contiguous()?.apply_op2(weight, RmsNorm { eps: self.eps as f32 })
        };
        x.iter().zip(&self.weights).map(norm).collect()
    }

    /// The norm of each head: of `[rows, heads_i * head_dim]` with weights `[head_dim]`.
    fn forward_heads(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let heads = x.iter().zip(&self.weights).map(|(x, weight)| x.reshape(((), weight.dim(0)?)));
        let normed = self.forward(&heads.collect::<Result<Vec<_>>>()?)?;
        normed.iter().zip(x).map(|(normed, x)| normed.reshape(x.shape())).collect()
    }
}

struct Attention {
    q: ChainLinear,
    k: ChainLinear,
    v: ChainLinear,
    o: ChainLinear,
    /// The norms of the heads of q and k (`qk_norm`).
    qk_norm: Option<(ChainNorm, ChainNorm)>,
    head_dim: usize,
    /// For each chain, the chain whose keys and values it attends to.
    owners: Vec<usize>,
    /// For each chain, the key/value head of its owner that each query head reads; `None` if head h reads head h.
    kv_heads: Vec<Option<Tensor>>,
}

impl Attention {
    fn new(lookup: &BlockLookup, layer: usize) -> Result<Self> {
        let config = lookup.config;
        let linear = |projection| ChainLinear::new(lookup, layer, projection);
        let owners: Vec<usize> = (0..config.chains.count()).map(|i| config.kv_owner(i)).collect();
        let kv_head_indices = owners.iter().enumerate().map(|(i, &owner)| {
            let (heads, kv_heads) = (config.heads.of(i), config.kv_heads.of(owner));
            let read = |head| (head * kv_heads / heads) as u32;
            if heads == kv_heads {
                Ok(None)
            } else {
                Tensor::from_iter((0..heads).map(read), &Device::Cpu).map(Some)
            }
        });
        let norm = |id| ChainNorm::new(lookup, id);
        let qk_norm = if config.file.qk_norm {
            Some((norm(TensorId::QueryNorm { layer })?, norm(TensorId::KeyNorm { layer })?))
        } else {
            None
        };
        Ok(Self {
            qk_norm,
            q: linear(Projection::Q)?,
            k: linear(Projection::K)?,
            v: linear(Projection::V)?,
            o: linear(Projection::O)?,
            head_dim: config.head_dim,
            kv_heads: kv_head_indices.collect::<Result<_>>()?,
            owners,
        })
    }

    fn forward(&self, x: &[Tensor], sequences: &Sequences) -> Result<Vec<Tensor>> {
        let x = prefixes(x)?;
        let heads = |rotation: Option<&Rotation>| SplitHeads {
            batch: sequences.batch,
            head_dim: self.head_dim,
            rotation: rotation.cloned(),
        };
        let split = |rows: Vec<Tensor>, rotation| {
            let heads = rows.iter().map(|rows| rows.apply_op1(heads(rotation)));
            heads.collect::<Result<Vec<_>>>()
        };
        let (mut q, mut k) = (self.q.forward(&x)?, self.k.forward(&x)?);
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            (q, k) = (q_norm.forward_heads(&q)?, k_norm.forward_heads(&k)?);
        }
        let q = split(q, Some(&sequences.rotation))?;
        let k = split(k, Some(&sequences.rotation))?;
        let v = split(self.v.forward(&x)?, None)?;
        let attended = q.iter().enumerate().map(|(i, q)| {
            let owner = self.owners[i];
            let read = |kv: &Tensor| match &self.kv_heads[i] {
                Some(heads) => kv.index_select(heads, 1),
                None => Ok(kv.clone()),
            };
            let weights = q.apply_op2(&read(&k[owner])?, AttentionWeights)?;
            weights.matmul(&read(&v[owner])?)?.apply_op1(MergeHeads(heads(None)))
        });
        self.o.forward(&prefixes(&attended.collect::<Result<Vec<_>>>()?)?)
    }
}

struct Mlp {
    gate: ChainLinear,
    up: ChainLinear,
    down: ChainLinear,
}

impl Mlp {
    fn new(lookup: &BlockLookup, layer: usize) -> Result<Self> {
        let linear = |projection| ChainLinear::new(lookup, layer, projection);
        Ok(Self {
            gate: linear(Projection::Gate)?,
            up: linear(Projection::Up)?,
            down: linear(Projection::Down)?,
        })
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let x = prefixes(x)?;
        let (gate, up) = (self.gate.forward(&x)?, self.up.forward(&x)?);
        let h = gate.iter().zip(&up).map(|(gate, up)| gate.apply_op2(up, SwiGlu));
        self.down.forward(&prefixes(&h.collect::<Result<Vec<_>>>()?)?)
    }
}

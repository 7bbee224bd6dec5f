//! The model that is trained: docs/spec.md#layers chain by chain, one tensor per block of the chain layout.
//!
//! No block above the block diagonal exists, so none is computed. A block that is no variable is
//! frozen: autograd keeps nothing of a chain whose blocks, and those of all chains before it, are
//! frozen, and goes back through none of it.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use colm_checkpoint::{ColmConfig, Part, Projection};

use crate::fused::{
    Append, AttentionWeights, Linear, MergeHeads, RmsNorm, Rotation, SplitHeads, SwiGlu,
};
use crate::positions::Rope;

/// The chains' tensors by their names in the chain layout (docs/spec.md#tensors), f32.
pub type Blocks = HashMap<String, Tensor>;

/// CoLM, CoLM-Air or, with one chain, a Llama. All chains are computed at all positions.
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
    /// The model of the `blocks`; fails if one is missing.
    pub fn new(config: &ColmConfig, blocks: &Blocks) -> Result<Self> {
        let found = Found { config, blocks };
        let embedding = found.chains_of(Part::Embedding)?;
        let head = match config.file.tie_word_embeddings {
            true => embedding.clone(),
            false => found.chains_of(Part::Head)?,
        };
        let layers = 0..config.file.num_hidden_layers;
        Ok(Self {
            config: config.clone(),
            embedding,
            layers: layers.map(|layer| Layer::new(&found, layer)).collect::<Result<_>>()?,
            norm: ChainNorm::new(&found, Part::FinalNorm)?,
            head,
            rope: Rope::new(config)?,
        })
    }

    /// What the model was built from.
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

    /// The logits of the models at 1, 2, .. n chains, each `[rows, vocab]`, from rows of
    /// z_1 .. z_n: a running sum over the chains.
    pub fn logits(&self, z: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut logits: Vec<Tensor> = Vec::with_capacity(z.len());
        for (z, head) in z.iter().zip(&self.head) {
            let part = z.apply_op2(head, Linear)?;
            logits.push(match logits.last() {
                Some(below) => (below + part)?,
                None => part,
            });
        }
        Ok(logits)
    }
}

/// Blocks and the config that names them.
struct Found<'a> {
    config: &'a ColmConfig,
    blocks: &'a Blocks,
}

impl Found<'_> {
    /// The blocks of `part`, by chain; Air's keys and values have one.
    fn chains_of(&self, part: Part) -> Result<Vec<Tensor>> {
        let chains = 0..self.config.chains.count();
        let owned = chains.filter_map(|i| self.config.chain_tensor(part, i));
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

/// What a layer must know of the batch.
struct Sequences {
    batch: usize,
    rotation: Rotation,
}

/// x_<=1 .. x_<=n: what each chain reads. Each is a copy, so that what is frozen stays apart from
/// what is trained.
fn prefixes(x: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut prefixes: Vec<Tensor> = Vec::with_capacity(x.len());
    for x in x {
        prefixes.push(match prefixes.last() {
            Some(before) => before.apply_op2(x, Append)?,
            None => x.clone(),
        });
    }
    Ok(prefixes)
}

/// Chain by chain x_i + y_i.
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
    fn new(found: &Found, layer: usize) -> Result<Self> {
        Ok(Self {
            input_norm: ChainNorm::new(found, Part::InputNorm { layer })?,
            attention: Attention::new(found, layer)?,
            post_attention_norm: ChainNorm::new(found, Part::PostAttentionNorm { layer })?,
            mlp: Mlp::new(found, layer)?,
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
    /// b_i `[out_i]`, or none at all.
    biases: Vec<Tensor>,
}

impl ChainLinear {
    fn new(found: &Found, layer: usize, projection: Projection) -> Result<Self> {
        let biases = match found.config.has_bias(projection) {
            true => found.chains_of(Part::Bias { layer, projection })?,
            false => Vec::new(),
        };
        Ok(Self { weights: found.chains_of(Part::Weight { layer, projection })?, biases })
    }

    /// [`prefixes`] of the input, each `[rows, in_<=i]`, to y_i `[rows, out_i]`; so many as there
    /// are blocks.
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
    fn new(found: &Found, part: Part) -> Result<Self> {
        Ok(Self { weights: found.chains_of(part)?, eps: found.config.file.rms_norm_eps })
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let norm = |(x, weight): (&Tensor, &Tensor)| {
            x.contiguous()?.apply_op2(weight, RmsNorm { eps: self.eps as f32 })
        };
        x.iter().zip(&self.weights).map(norm).collect()
    }
}

struct Attention {
    q: ChainLinear,
    k: ChainLinear,
    v: ChainLinear,
    o: ChainLinear,
    head_dim: usize,
    /// Per chain, whose keys and values it attends to.
    owners: Vec<usize>,
    /// Per chain and query head, the head it reads of its owner's; None if each reads its own.
    reads: Vec<Option<Tensor>>,
}

impl Attention {
    fn new(found: &Found, layer: usize) -> Result<Self> {
        let config = found.config;
        let linear = |projection| ChainLinear::new(found, layer, projection);
        let owners: Vec<usize> = (0..config.chains.count()).map(|i| config.kv_owner(i)).collect();
        let reads = owners.iter().enumerate().map(|(i, &owner)| {
            let (heads, kv_heads) = (config.heads.of(i), config.kv_heads.of(owner));
            let read = |head| (head * kv_heads / heads) as u32;
            match heads == kv_heads {
                true => Ok(None),
                false => Tensor::from_iter((0..heads).map(read), &Device::Cpu).map(Some),
            }
        });
        Ok(Self {
            q: linear(Projection::Q)?,
            k: linear(Projection::K)?,
            v: linear(Projection::V)?,
            o: linear(Projection::O)?,
            head_dim: config.head_dim,
            reads: reads.collect::<Result<_>>()?,
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
        let q = split(self.q.forward(&x)?, Some(&sequences.rotation))?;
        let k = split(self.k.forward(&x)?, Some(&sequences.rotation))?;
        let v = split(self.v.forward(&x)?, None)?;
        let attended = q.iter().enumerate().map(|(i, q)| {
            let owner = self.owners[i];
            let read = |kv: &Tensor| match &self.reads[i] {
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
    fn new(found: &Found, layer: usize) -> Result<Self> {
        let linear = |projection| ChainLinear::new(found, layer, projection);
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

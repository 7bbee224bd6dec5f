//! Attention (docs/spec.md#layers). CoLM and CoLM-Air differ only in which chain owns the keys and values that a
//! chain reads.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use colm_checkpoint::{Projection, TensorId};
use colm_kernels::{
    chain_attention, rope_and_write, ChainQueries, KvBlocks, NewKeysValues, NewRows, Rope,
};

use super::linear::ChainLinear;
use super::norm::ChainRmsNorm;
use super::representation::Representation;
use super::step::{OutputRows, Step};
use super::weight_source::Weights;

/// Causal attention of every chain over the keys and values of the chain that owns them.
pub struct ChainAttention {
    /// Queries.
    pub q_proj: ChainLinear,
    /// Keys, of the chains that own some.
    pub k_proj: ChainLinear,
    /// Values, of the chains that own some.
    pub v_proj: ChainLinear,
    /// The output.
    pub o_proj: ChainLinear,
    /// The norm of each query head (`qk_norm`).
    pub q_norm: Option<ChainRmsNorm>,
    /// The norm of each key head (`qk_norm`).
    pub k_norm: Option<ChainRmsNorm>,
    rope: Arc<Rope>,
    head_dim: usize,
    /// Per chain, the key/value heads of the cache that it reads: those of the chain that owns them.
    read_heads: Vec<Range<usize>>,
    /// Per chain that owns keys and values, the heads of the cache that it writes.
    written_heads: Vec<Range<usize>>,
}

impl ChainAttention {
    /// Loads the attention of `layer`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(weights: &Weights, layer: usize, rope: Arc<Rope>) -> Result<Self> {
        let (config, k) = (weights.config, weights.k);
        let linear = |projection| weights.projection(layer, projection);
        let owned = (0..k).map(|i| config.kv_heads.range(i));
        Ok(Self {
            q_proj: linear(Projection::Q)?,
            k_proj: linear(Projection::K)?,
            v_proj: linear(Projection::V)?,
            o_proj: linear(Projection::O)?,
            q_norm: weights.head_norm(TensorId::QueryNorm { layer })?,
            k_norm: weights.head_norm(TensorId::KeyNorm { layer })?,
            rope,
            head_dim: config.head_dim,
            read_heads: (0..k).map(|i| config.kv_heads.range(config.kv_owner(i))).collect(),
            written_heads: owned.filter(|heads| !heads.is_empty()).collect(),
        })
    }

    /// `residual` plus attention of `x`, both of the step's rows, at the rows `outputs`. The keys and values of all rows
    /// are written to `kv` first.
    pub fn forward_add(
        &self,
        x: &Representation,
        step: &Step,
        outputs: &OutputRows,
        kv: &KvBlocks,
        residual: &Representation,
    ) -> Result<Representation> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [mut q, mut k, v] = ChainLinear::forward(projections, x, &step.active)?;
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            (q, k) = (q_norm.forward_heads(&q)?, k_norm.forward_heads(&k)?);
        }
        let q = Representation::new(self.rope_and_write(&q, &k, &v, step, kv)?);
        let q = q.select(&step.active, &outputs.rows)?;
        let residual = residual.select(&step.active, &outputs.rows)?;
        let chains = q.chains().iter().zip(&outputs.queries).zip(&self.read_heads);
        let queries =
            chains.map(|((q, ranges), heads)| ChainQueries { q, ranges, kv_heads: heads.clone() });
        let scale = 1. / (self.head_dim as f32).sqrt();
        let heads = chain_attention(&queries.collect::<Vec<_>>(), kv, &step.block_tables, scale)?;
        let heads = heads.iter().map(|heads| heads.flatten_from(1));
        let heads = Representation::new(heads.collect::<Result<_>>()?);
        self.o_proj.forward_add(&heads, &outputs.rows, &residual)
    }

    /// The rotated queries of each chain. The keys, rotated as well, and the values are written to `kv`.
    fn rope_and_write(
        &self,
        q: &Representation,
        k: &Representation,
        v: &Representation,
        step: &Step,
        kv: &KvBlocks,
    ) -> Result<Vec<Tensor>> {
        let [q, k, v] = [self.heads(q)?, self.heads(k)?, self.heads(v)?];
        let chains = q.iter().zip(step.chains()).enumerate();
        let chains = chains.map(|(index, (q, chain))| NewRows {
            q,
            positions: &chain.positions,
            keys_values: self.written_heads.get(index).map(|heads| NewKeysValues {
                keys: &k[index],
                values: &v[index],
                heads: heads.clone(),
                slots: &chain.slots,
            }),
        });
        rope_and_write(&chains.collect::<Vec<_>>(), &self.rope, kv)
    }

    /// Every chain `[rows, heads_i * head_dim]` as `[rows, heads_i, head_dim]`.
    fn heads(&self, x: &Representation) -> Result<Vec<Tensor>> {
        let heads = |x: &Tensor| x.reshape((x.dim(0)?, (), self.head_dim));
        x.chains().iter().map(heads).collect()
    }
}

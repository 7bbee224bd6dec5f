//! Attention (docs/spec.md#layers). CoLM and CoLM-Air differ only in which chain owns the keys and values that a
//! chain reads.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use colm_checkpoint::Projection;
use colm_kernels::{chain_attention, ChainQueries, KvBlocks, Rope};

use super::layer_weights::LayerWeights;
use super::linear::ChainLinear;
use super::norm::ChainRmsNorm;
use super::representation::Representation;
use super::step::{ChainStep, Step};

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
    /// Loads the first `k` chains.
    pub fn load(weights: &LayerWeights, k: usize, rope: Arc<Rope>) -> Result<Self> {
        let config = weights.config;
        let owned = (0..k).map(|i| config.kv_heads.range(i));
        Ok(Self {
            q_proj: weights.linear(Projection::Q, k)?,
            k_proj: weights.linear(Projection::K, k)?,
            v_proj: weights.linear(Projection::V, k)?,
            o_proj: weights.linear(Projection::O, k)?,
            q_norm: weights.head_norm("self_attn.q_norm", &config.query_norm(), k)?,
            k_norm: weights.head_norm("self_attn.k_norm", &config.key_norm(), k)?,
            rope,
            head_dim: config.head_dim,
            read_heads: (0..k).map(|i| config.kv_heads.range(config.kv_owner(i))).collect(),
            written_heads: owned.filter(|heads| !heads.is_empty()).collect(),
        })
    }

    /// `residual` plus attention of `x`, whose keys and values are written to `kv` first.
    pub fn forward_add(
        &self,
        x: &Representation,
        step: &Step,
        kv: &KvBlocks,
        residual: &Representation,
    ) -> Result<Representation> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [mut q, mut k, v] = ChainLinear::forward(projections, x, &step.active)?;
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            (q, k) = (q_norm.forward_heads(&q)?, k_norm.forward_heads(&k)?);
        }
        self.write(&k, &v, step, kv)?;
        let q = q.chains().iter().zip(step.chains());
        let q = q.map(|(q, chain)| self.rope.apply(&self.heads(q)?, &chain.positions));
        let q = q.collect::<Result<Vec<_>>>()?;
        let chains = q.iter().zip(step.chains()).zip(&self.read_heads);
        let queries = chains.map(|((q, chain), heads)| ChainQueries {
            q,
            ranges: &chain.queries,
            kv_heads: heads.clone(),
        });
        let scale = 1. / (self.head_dim as f32).sqrt();
        let heads = chain_attention(&queries.collect::<Vec<_>>(), kv, &step.block_tables, scale)?;
        let heads = heads.iter().map(|heads| heads.flatten_from(1));
        let heads = Representation::new(heads.collect::<Result<_>>()?);
        self.o_proj.forward_add(&heads, &step.active, residual)
    }

    fn write(
        &self,
        k: &Representation,
        v: &Representation,
        step: &Step,
        kv: &KvBlocks,
    ) -> Result<()> {
        let owners = k.chains().iter().zip(v.chains()).zip(&self.written_heads).zip(step.chains());
        for (((k, v), heads), ChainStep { positions, slots, .. }) in owners {
            let (k, v) = (self.heads(k)?, self.heads(v)?);
            kv.write_with_rope(heads.clone(), &k, &v, slots, &self.rope, positions)?;
        }
        Ok(())
    }

    /// `[rows, heads * head_dim]` to `[rows, heads, head_dim]`.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        x.reshape((x.dim(0)?, (), self.head_dim))
    }
}

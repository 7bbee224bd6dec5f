//! Attention (SPEC 2). CoLM and Air differ only in which chain owns the keys and values a chain reads.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use colm_checkpoint::{ColmConfig, Projection};
use colm_kernels::{chain_attention, ChainQueries, KvBlocks, Rope};
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::layers::ChainLinear;
use super::representation::{Prefixes, Representation};
use super::rows::Step;

/// Causal attention of every chain over the keys and values of the chain that owns them.
pub struct ChainAttention {
    pub q_proj: ChainLinear,
    pub k_proj: ChainLinear,
    pub v_proj: ChainLinear,
    pub o_proj: ChainLinear,
    rope: Arc<Rope>,
    head_dim: usize,
    /// Per chain, the key/value heads of the cache that it reads: those of its owner.
    reads: Vec<Range<usize>>,
    /// Per chain that owns keys and values, the heads of the cache that it writes.
    owns: Vec<Range<usize>>,
}

impl ChainAttention {
    /// The first `k` chains from `vb`, which stands at the layer's name.
    pub fn load(
        config: &ColmConfig,
        k: usize,
        rope: Arc<Rope>,
        quantization: &Option<QuantizedConfig>,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let load = |projection: Projection| {
            ChainLinear::load(config, projection, k, quantization, &vb.pp(projection.name()))
        };
        let owned = (0..k).map(|i| config.kv_heads.range(i));
        Ok(Self {
            q_proj: load(Projection::Q)?,
            k_proj: load(Projection::K)?,
            v_proj: load(Projection::V)?,
            o_proj: load(Projection::O)?,
            rope,
            head_dim: config.head_dim,
            reads: (0..k).map(|i| config.kv_heads.range(config.kv_owner(i))).collect(),
            owns: owned.filter(|heads| !heads.is_empty()).collect(),
        })
    }

    /// Writes the step's keys and values to `kv`, then attends.
    pub fn forward(&self, x: &Prefixes, step: &Step, kv: &KvBlocks) -> Result<Representation> {
        self.write(x, step, kv)?;
        let rows = &step.active;
        let q = self.q_proj.forward(x)?;
        let q = q.chains().iter().enumerate();
        let q = q.map(|(i, q)| self.rope.apply(&self.heads(q)?, &rows.positions(i)));
        let q = q.collect::<Result<Vec<_>>>()?;
        let ranges: Vec<_> = (0..q.len()).map(|i| rows.query_ranges(i)).collect();
        let queries: Vec<_> = q
            .iter()
            .zip(&ranges)
            .zip(&self.reads)
            .map(|((q, ranges), heads)| ChainQueries { q, ranges, kv_heads: heads.clone() })
            .collect();
        let scale = 1. / (self.head_dim as f32).sqrt();
        let heads = chain_attention(&queries, kv, &step.block_tables, scale)?;
        let heads = heads.iter().map(|heads| heads.flatten_from(1));
        let heads = Representation::new(heads.collect::<Result<_>>()?);
        self.o_proj.forward(&heads.prefixes(rows)?)
    }

    fn write(&self, x: &Prefixes, step: &Step, kv: &KvBlocks) -> Result<()> {
        let (k, v) = (self.k_proj.forward(x)?, self.v_proj.forward(x)?);
        let owners = k.chains().iter().zip(v.chains()).zip(&self.owns).enumerate();
        for (i, ((k, v), heads)) in owners {
            let k = self.rope.apply(&self.heads(k)?, &step.active.positions(i))?;
            kv.write(heads.clone(), &k, &self.heads(v)?, &step.slots_of(i))?;
        }
        Ok(())
    }

    /// `[rows, heads * head_dim]` to `[rows, heads, head_dim]`.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        x.reshape((x.dim(0)?, (), self.head_dim))
    }
}

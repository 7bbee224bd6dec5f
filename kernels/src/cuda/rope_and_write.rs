//! RoPE of all chains and the write to the paged KV cache on a GPU, in one launch.

use candle_core::{Result, Tensor};
use colm_cuda::{KvRows, RopeChain};

use super::rope::upload_positions;
use super::upload_cache;
use crate::rope_and_write::{NewKeysValues, NewRows};
use crate::{KvBlocks, Rope};

/// [`crate::rope_and_write`], with checked arguments.
pub(crate) fn rope_and_write(
    chains: &[NewRows],
    rope: &Rope,
    kv: &KvBlocks,
) -> Result<Vec<Tensor>> {
    let tensors = chains.iter().map(|chain| ChainTensors::new(chain, kv));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let launch: Vec<_> = tensors.iter().map(ChainTensors::launch).collect();
    let table = rope.gpu_table(kv.keys().device())?;
    let outs = colm_cuda::rope_and_write(&launch, &table, &kv.for_gpu())?;
    outs.iter().zip(chains).map(|(out, chain)| out.to_dtype(chain.q.dtype())).collect()
}

/// The arguments of one chain in the dtype of the cache, contiguous.
struct ChainTensors {
    q: Tensor,
    positions: Tensor,
    /// Keys, values, slots and the first head.
    new: Option<(Tensor, Tensor, Tensor, usize)>,
}

impl ChainTensors {
    fn new(chain: &NewRows, kv: &KvBlocks) -> Result<Self> {
        let (dtype, device) = (kv.keys().dtype(), kv.keys().device());
        let ready = |tensor: &Tensor| tensor.to_dtype(dtype)?.contiguous();
        let new = match &chain.keys_values {
            None => None,
            Some(NewKeysValues { keys, values, heads, slots }) => {
                let slots = upload_cache::slots(slots.as_slice(), device)?;
                Some((ready(keys)?, ready(values)?, slots, heads.start))
            }
        };
        let positions = upload_positions(chain.positions, device)?;
        Ok(Self { q: ready(chain.q)?, positions, new })
    }

    fn launch(&self) -> RopeChain<'_> {
        let new = self.new.as_ref().map(|(keys, values, slots, first_head)| KvRows {
            keys,
            values,
            slots,
            first_head: *first_head,
        });
        RopeChain { q: &self.q, positions: &self.positions, new }
    }
}

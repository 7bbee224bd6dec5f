//! What keys and values depend on, apart from the tokens.

use colm_checkpoint::{ChainCount, Checkpoint, ColmConfig};

/// Identifies the keys and values of a model at each chain count: they depend on the weights and the config of the chains
/// that compute them, and on how these are held and computed. Two processes with equal identities compute equal keys and
/// values for equal tokens, bit for bit; with quantized types that the host computes, up to rounding.
#[derive(Debug)]
pub struct KvIdentity {
    /// Per chain count, from 1 on.
    salts: Vec<String>,
}

impl KvIdentity {
    /// The identity of the chains of `checkpoint`. `held_as` says how weights are held and computed, such as their
    /// quantization, dtypes and the rounding of the kernels.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn of(config: &ColmConfig, checkpoint: &Checkpoint, held_as: &str) -> anyhow::Result<Self> {
        let digests = checkpoint.kv_digests()?;
        let salts = (1..=digests.len()).map(|k| {
            // In Air all of them come from chain 1.
            let chains = (0..k).filter(|&chain| config.kv_heads.of(chain) > 0).count();
            let mut identity = blake3::Hasher::new();
            identity.update(held_as.as_bytes());
            for digest in &digests[..chains] {
                identity.update(digest);
            }
            identity.finalize().to_hex().to_string()
        });
        Ok(Self { salts: salts.collect() })
    }

    /// The cache salt of requests at `k` chains: it enters the hashes of their blocks.
    pub fn salt(&self, k: ChainCount) -> &str {
        &self.salts[k.get() - 1]
    }

    /// The smallest chain count with this salt; None for the salt of another model.
    pub fn chains_of(&self, salt: &str) -> Option<usize> {
        self.salts.iter().position(|known| known == salt).map(|index| index + 1)
    }
}

//! Digests of what keys and values depend on.

use super::Checkpoint;
use crate::config::ColmConfig;
use crate::format::{ChainTensor, CheckpointError, TensorId};

impl Checkpoint {
    /// Per chain opened, a BLAKE3 digest of what its keys and values depend on beside the chains before it: its embedding
    /// and layers, as they are stored, and the fields of the config that say how they are computed. The final norm and the
    /// LM head are left out. Both layouts, and models with more chains, have the same digests. Reads all weights.
    ///
    /// # Errors
    /// If the system cannot release pages of a file.
    pub fn kv_digests(&self) -> Result<Vec<[u8; 32]>, CheckpointError> {
        (0..self.chain_count().get()).map(|chain| self.kv_digest(chain)).collect()
    }

    fn kv_digest(&self, chain: usize) -> Result<[u8; 32], CheckpointError> {
        let mut digest = blake3::Hasher::new();
        digest.update(computed_with(&self.config, chain).as_bytes());
        for tensor in self.config.tensors_of(chain) {
            if !matches!(tensor.id, TensorId::FinalNorm | TensorId::Head) {
                digest.update(&self.tensor_digest(&tensor));
                self.release_pages()?;
            }
        }
        Ok(*digest.finalize().as_bytes())
    }

    /// A digest for each tensor makes the boundaries between them part of the whole.
    fn tensor_digest(&self, tensor: &ChainTensor) -> [u8; 32] {
        let weights = self.tensor(tensor);
        let mut digest = blake3::Hasher::new();
        let dtype_and_shape =
            format!("{:?} {:?} {:?}", tensor.id, weights.dtype(), weights.shape());
        digest.update(dtype_and_shape.as_bytes());
        digest.update_rayon(&weights.bytes());
        *digest.finalize().as_bytes()
    }
}

/// The fields that say how the keys and values of `chain` are computed. The shapes of its tensors give its widths.
fn computed_with(config: &ColmConfig, chain: usize) -> String {
    let file = &config.file;
    format!(
        "{} layers {} heads {} of {} kv heads {} eps {:?} rope {:?} {:?} qk_norm {} act {}\n",
        config.architecture.name(),
        file.num_hidden_layers,
        config.heads.of(chain),
        config.head_dim,
        config.kv_heads.of(chain),
        file.rms_norm_eps,
        file.rope_theta,
        config.rope_scaling,
        file.qk_norm,
        file.hidden_act,
    )
}

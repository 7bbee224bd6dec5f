//! Deviations from the format.

use super::{Projection, TensorId};

/// In what ways a folder may deviate from `docs/spec.md#tensors` and still be read. The default
/// allows none; it is that of a CoLM in the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedDeviations {
    /// Weights may be in PyTorch state dicts.
    pub state_dicts: bool,
    /// o_proj may lack its bias although `attention_bias` is true. The bias is then zero.
    pub no_o_bias: bool,
    /// With `tie_word_embeddings` there may be an `lm_head.weight` that equals the embedding.
    pub tied_head_copy: bool,
    /// The folder is in the paper's own conventions: names and order of tensors, and names of files.
    pub paper_conventions: bool,
}

impl AllowedDeviations {
    /// Whether tensor `id` is in no file and consists of zeros.
    pub fn implies_zero(self, id: TensorId) -> bool {
        self.no_o_bias && matches!(id, TensorId::Bias { projection: Projection::O, .. })
    }

    /// The deviations that [`Source`](crate::Source), [`verify`](crate::verify) and [`inspect`](crate::inspect) accept
    /// in a folder with a CoLM config.
    pub const FOR_COLM: Self = Self {
        state_dicts: true,
        no_o_bias: false,
        tied_head_copy: false,
        paper_conventions: false,
    };

    /// The deviations of a folder in the paper's conventions.
    pub const FOR_PAPER: Self =
        Self { state_dicts: true, no_o_bias: false, tied_head_copy: true, paper_conventions: true };
}

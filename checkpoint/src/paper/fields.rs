//! The fields of params.json, by how they are treated.

/// Fields that describe the model.
pub(super) const USED: [&str; 16] = [
    "dim",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "chains",
    "hidden_dim",
    "vocab_size",
    "norm_eps",
    "rope_theta",
    "rope_scaling_args",
    "use_scaled_rope",
    "max_seq_len",
    "kv_sharing",
    "attn_mask_type",
    "norm_type",
];

/// The names under which programs write that the head shares the weights of the embedding.
pub(super) const TIED: [&str; 3] = ["tie_word_embeddings", "weight_tying", "enable_weight_tying"];

/// Fields that change the model in a way these conventions do not have, unless they are false.
pub(super) const MUST_BE_FALSE: [&str; 5] =
    ["attention_bias", "qkv_bias", "mlp_bias", "qk_norm", "use_qk_norm"];

/// Fields without an effect on the model: `hidden_dim` is the width that the first two would give, and the others
/// concern training or the memory of another program.
pub(super) const WITHOUT_EFFECT: [&str; 6] = [
    "multiple_of",
    "ffn_dim_multiplier",
    "depth_init",
    "max_batch_size",
    "eos_id",
    "use_flex_attn",
];

/// Whether params.json may have `field`.
pub(super) fn is_known(field: &str) -> bool {
    [&USED[..], &TIED, &MUST_BE_FALSE, &WITHOUT_EFFECT].iter().any(|known| known.contains(&field))
}

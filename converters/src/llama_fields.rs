//! The fields of config.json of the Llama family, by what becomes of them.

/// Fields that have no default.
pub(crate) const REQUIRED: [&str; 5] =
    ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];

/// Fields that make a model compute what CoLM does not, unless they are null.
pub(crate) const ABSENT: [&str; 13] = [
    "attention_chunk_size",
    "attention_multiplier",
    "attn_logit_softcapping",
    "clip_qkv",
    "final_logit_softcapping",
    "kv_lora_rank",
    "n_routed_experts",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "q_lora_rank",
    "query_pre_attn_scalar",
    "scale_depth",
];

/// The same, unless they are false.
pub(crate) const FALSE: [&str; 15] = [
    "add_cross_attention",
    "alibi",
    "is_encoder_decoder",
    "parallel_attn",
    "qk_layernorm",
    "qk_norm",
    "rope_interleave",
    "rope_interleaved",
    "scale_attn_by_inverse_layer_idx",
    "use_alibi",
    "use_mrope",
    "use_parallel_residual",
    "use_qk_norm",
    "use_sliding_window",
    "zero_centered_gamma",
];

/// The same, unless they are 1.
pub(crate) const ONE: [&str; 7] = [
    "embedding_multiplier",
    "logit_scale",
    "logits_scaling",
    "partial_rotary_factor",
    "residual_multiplier",
    "rotary_pct",
    "scale_emb",
];

/// Fields that CoLM's config takes over as they are, beside those it is computed from.
pub(crate) const KEPT: [&str; 23] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "torch_dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "use_cache",
    "_name_or_path",
    "transformers_version",
];

//! The fields of config.json of the Llama family, by how they are treated.

/// Fields without a default.
pub(super) const REQUIRED: [&str; 5] =
    ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];

/// Fields that change the computation in a way CoLM does not have, unless they are null.
pub(super) const MUST_BE_NULL: [&str; 13] = [
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

/// As [`MUST_BE_NULL`], unless they are false.
pub(super) const MUST_BE_FALSE: [&str; 15] = [
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

/// As [`MUST_BE_NULL`], unless they are 1.
pub(super) const MUST_BE_ONE: [&str; 7] = [
    "embedding_multiplier",
    "logit_scale",
    "logits_scaling",
    "partial_rotary_factor",
    "residual_multiplier",
    "rotary_pct",
    "scale_emb",
];

/// Fields that are copied to CoLM's config.
pub(super) const KEPT: [&str; 23] = [
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

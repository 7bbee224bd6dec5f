"""The configurations of the golden cases."""

VOCAB = 61
TOKENS = 40

COLM = {"architectures": ["CoLMForCausalLM"], "model_type": "colm"}
AIR = {"architectures": ["CoLMAirForCausalLM"], "model_type": "colm_air"}
# With head_dim 8, theta 100 and 32 original positions, the wavelengths are 6.3, 19.9, 62.8 and 198.7, which covers
# all three cases of the scaling: kept, interpolated, stretched.
LLAMA3 = {
    "rope_theta": 100.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}
BIASES = {"attention_bias": True, "mlp_bias": True}

# Shares that no ratio gives.
WIDTHS = {"hidden_size": [20, 12], "intermediate_size": [40, 8], "num_attention_heads": [2, 4]}
COLM_WIDTHS = {
    **COLM,
    "chains": [5, 3],
    "num_attention_heads": 6,
    "chain_widths": {**WIDTHS, "num_key_value_heads": [2, 2]},
}
# Key/value heads without an entry, and a width that follows `chains`.
AIR_WIDTHS = {
    **AIR,
    "chains": [1, 1, 1],
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "chain_widths": {"hidden_size": [16, 6, 10], "num_attention_heads": [1, 3, 2]},
}
# Query heads that share key/value heads in unequal groups. Chain 2 has fewer query heads than key/value heads.
UNEQUAL_GROUPS = {
    **COLM,
    "chains": [2, 1, 1],
    "num_attention_heads": 10,
    "num_key_value_heads": 8,
    "chain_widths": {"num_attention_heads": [5, 2, 3], "num_key_value_heads": [3, 3, 2]},
}
QK_NORM = {"qk_norm": True}

# For the paper's conventions: chains that differ in all widths, several query heads per key/value head, and a head
# dimension of 4, in which neighbors and halves differ.
PAPER = {"hidden_size": 48, "head_dim": 4, "num_attention_heads": 12}
COLM_PAPER = {**COLM, **PAPER, "chains": [8, 4], "num_key_value_heads": 6}
AIR_PAPER = {**AIR, **PAPER, "chains": [6, 4, 2], "num_key_value_heads": 2, **LLAMA3}

# name -> (seed, layout, config fields in addition to `common`). Cases with equal seed and config have the same weights
# in two layouts.
CASES = {
    "llama": (1, "chains", {**COLM, "chains": [1], "num_key_value_heads": 2}),
    "colm-1-1": (2, "chains", {**COLM, "chains": [1, 1]}),
    "colm-1-1-bias": (3, "chains", {**COLM, "chains": [1, 1], "hidden_size": 24, **BIASES}),
    "colm-2-1-1-gqa": (4, "chains", {**COLM, "chains": [2, 1, 1], "num_attention_heads": 8, **LLAMA3}),
    "colm-2-1-1-gqa-dense": (4, "dense", {**COLM, "chains": [2, 1, 1], "num_attention_heads": 8, **LLAMA3}),
    "colm-1-1-1-1-tied": (
        5,
        "chains",
        {**COLM, "chains": [1, 1, 1, 1], "head_dim": 16, "tie_word_embeddings": True},
    ),
    "air-1-1": (6, "chains", {**AIR, "chains": [1, 1], "num_key_value_heads": 1}),
    "air-1-1-bias": (7, "chains", {**AIR, "chains": [1, 1], "num_key_value_heads": 2, "hidden_size": 24, **BIASES}),
    "air-2-1-1-gqa": (
        8,
        "chains",
        {**AIR, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, **LLAMA3},
    ),
    "air-2-1-1-gqa-dense": (
        8,
        "dense",
        {**AIR, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, **LLAMA3},
    ),
    "air-1-1-1-1-tied": (
        9,
        "chains",
        {**AIR, "chains": [1, 1, 1, 1], "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    ),
    "colm-widths": (10, "chains", COLM_WIDTHS),
    "colm-widths-dense": (10, "dense", COLM_WIDTHS),
    "air-widths": (11, "chains", AIR_WIDTHS),
    "air-widths-dense": (11, "dense", AIR_WIDTHS),
    "colm-1-1-qk-norm": (12, "chains", {**COLM, "chains": [1, 1], "num_key_value_heads": 2, **QK_NORM}),
    "colm-1-1-qk-norm-dense": (12, "dense", {**COLM, "chains": [1, 1], "num_key_value_heads": 2, **QK_NORM}),
    "air-2-1-1-qk-norm": (
        13,
        "chains",
        {**AIR, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, **QK_NORM, **LLAMA3},
    ),
    "air-2-1-1-qk-norm-dense": (
        13,
        "dense",
        {**AIR, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, **QK_NORM, **LLAMA3},
    ),
    "colm-8-4": (14, "chains", COLM_PAPER),
    "colm-8-4-paper": (14, "paper", COLM_PAPER),
    "air-6-4-2": (15, "chains", AIR_PAPER),
    "air-6-4-2-paper": (15, "paper", AIR_PAPER),
    "colm-unequal-groups": (22, "chains", UNEQUAL_GROUPS),
    "colm-unequal-groups-dense": (22, "dense", UNEQUAL_GROUPS),
    # Heads that are no multiple of the 4 or 8 numbers by which the engine's host groups a key.
    "colm-1-1-head-6": (20, "chains", {**COLM, "chains": [1, 1], "head_dim": 6, "num_key_value_heads": 2}),
    "air-2-1-1-head-10": (
        21,
        "chains",
        {**AIR, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 10},
    ),
}

# Cases with gradients, name -> (seed, config fields in addition to `common`): both variants with everything that has a
# weight of its own, and both with shares that no ratio gives.
SMALL = {"hidden_size": 16, "intermediate_size": 24, "head_dim": 4, "max_position_embeddings": 16}
GRADIENT_CASES = {
    "colm": (16, {**COLM, **SMALL, "chains": [2, 1, 1], "num_attention_heads": 8, **BIASES, **QK_NORM}),
    "air": (
        17,
        {**AIR, **SMALL, "chains": [2, 1, 1], "num_attention_heads": 8, "num_key_value_heads": 2, **BIASES, **QK_NORM},
    ),
    "colm-widths": (
        18,
        {
            **COLM,
            **SMALL,
            "chains": [5, 3],
            "num_attention_heads": 6,
            "chain_widths": {
                "hidden_size": [10, 6],
                "intermediate_size": [20, 4],
                "num_attention_heads": [2, 4],
                "num_key_value_heads": [2, 2],
            },
        },
    ),
    "air-widths-tied": (
        19,
        {
            **AIR,
            **SMALL,
            "chains": [1, 1, 1],
            "num_attention_heads": 6,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "chain_widths": {"hidden_size": [8, 3, 5], "num_attention_heads": [1, 3, 2]},
        },
    ),
}


def common():
    return {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }

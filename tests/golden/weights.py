"""The widths of the chains, and random weights in the chain layout (docs/spec.md#chains, docs/spec.md#tensors)."""

import math

import numpy as np

from cases import VOCAB


class Sizes:
    """The width of every chain (docs/spec.md#chains)."""

    def __init__(self, config):
        ratios = config["chains"]
        self.n = len(ratios)
        self.air = config["model_type"] == "colm_air"

        def split(field):
            width, shares = config[field], config.get("chain_widths", {}).get(field)
            if shares is None:
                assert all(width * ratio % sum(ratios) == 0 for ratio in ratios)
                shares = [width * ratio // sum(ratios) for ratio in ratios]
            assert len(shares) == self.n and sum(shares) == width
            return shares

        self.hidden = split("hidden_size")
        self.inner = split("intermediate_size")
        self.heads = split("num_attention_heads")
        kv = config["num_key_value_heads"]
        self.kv = [kv] + [0] * (self.n - 1) if self.air else split("num_key_value_heads")
        self.head_dim = config["head_dim"]

    def linear(self, name):
        """Output and input widths of a projection, by chain."""
        heads = [count * self.head_dim for count in self.heads]
        kv = [count * self.head_dim for count in self.kv]
        return {
            "self_attn.q_proj": (heads, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, heads),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }[name]


PROJECTIONS = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]


def random_weights(config, seed):
    """Chain-layout tensors in F32, of a scale that keeps activations, attention scores and logits near 1."""
    rng = np.random.default_rng(seed)
    sizes = Sizes(config)
    weights = {}

    def draw(name, shape, scale, mean=0.0):
        weights[name] = (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    for i in range(sizes.n):
        hidden = sizes.hidden[i]
        tied = config["tie_word_embeddings"]
        unit = 1 / math.sqrt(config["hidden_size"])
        draw(f"model.embed_tokens.chains.{i}.weight", [VOCAB, hidden], unit if tied else 1.0)
        if not tied:
            draw(f"lm_head.chains.{i}.weight", [VOCAB, hidden], unit)
        draw(f"model.norm.chains.{i}.weight", [hidden], 0.2, 1.0)
        for l in range(config["num_hidden_layers"]):
            layer = f"model.layers.{l}"
            for norm in ["input_layernorm", "post_attention_layernorm"]:
                draw(f"{layer}.{norm}.chains.{i}.weight", [hidden], 0.2, 1.0)
            if config.get("qk_norm"):
                for norm in ["q_norm", "k_norm"] if sizes.kv[i] else ["q_norm"]:
                    draw(f"{layer}.self_attn.{norm}.chains.{i}.weight", [sizes.head_dim], 0.3, 1.0)
            for projection in PROJECTIONS:
                outputs, inputs = sizes.linear(projection)
                if outputs[i] == 0:
                    continue
                fan_in = sum(inputs[: i + 1])
                gain = 1.5 if projection in ("self_attn.q_proj", "self_attn.k_proj") else 1.0
                draw(f"{layer}.{projection}.chains.{i}.weight", [outputs[i], fan_in], gain / math.sqrt(fan_in))
                if config["attention_bias" if projection.startswith("self_attn") else "mlp_bias"]:
                    draw(f"{layer}.{projection}.chains.{i}.bias", [outputs[i]], 0.3)
    return weights

#!/usr/bin/env python3
"""Golden checkpoints and their expected logits: docs/spec.md in float64 NumPy.

This implementation was written from docs/spec.md alone and shares no code with the engine: full T x T attention, no
KV cache, a Python loop over chains and heads. It writes to its own folder:

    <case>/config.json, model*.safetensors [, model.safetensors.index.json]   a checkpoint, weights F32
    <case>-paper/params.json, consolidated.safetensors   the same weights in the paper's own conventions
    <case>/expected.safetensors   `logits.{k}` [tokens, vocab] F32, for every k from 1 to n
    <case>/expected.json          `tokens`, and `nll`: k -> mean over the tokens after the first of
                                  -ln p(token | those before it), in nats
    tokenizer.json, tokenizer_config.json   one token per id of the vocabulary; id 0 ends a text

To regenerate the files (Python 3.9 or later, NumPy; seeds are fixed, so checkpoints stay the same):

    pip install numpy && python3 tests/golden/make_golden.py

Cases in the paper's conventions have a model of their own, PaperModel, which gives their logits. Both models must
agree.

With --check nothing is written. The files on disk are compared with those that would be written (logits within
1e-6), and the exit status is 1 if they differ.
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
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


# --- the model (docs/spec.md#layers) ---------------------------------------------------------------------------------


def rms_norm(x, w, eps):
    return w * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def silu(x):
    return x / (1 + np.exp(-x))


def rope_frequencies(config):
    half = config["head_dim"] // 2
    frequencies = [config["rope_theta"] ** (-j / half) for j in range(half)]
    scaling = config["rope_scaling"]
    if scaling is None:
        return np.array(frequencies)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    rescaled = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < original / high:
            rescaled.append(frequency)
        elif wavelength > original / low:
            rescaled.append(frequency / factor)
        else:
            kept = (original / wavelength - low) / (high - low)
            rescaled.append(kept * frequency + (1 - kept) * frequency / factor)
    return np.array(rescaled)


def rotate(x, frequencies):
    """Llama's half-rotation of one head, x [T, head_dim]."""
    angle = np.arange(x.shape[0])[:, None] * frequencies[None, :]
    first, second = np.split(x, 2, axis=1)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def causal_attention(q, k, v):
    """One head over all T positions."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    scores = np.where(np.tril(np.ones_like(scores)) == 1, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)) @ v


class Model:
    def __init__(self, config, weights):
        self.config, self.sizes = config, Sizes(config)
        self.weights = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
        self.frequencies = rope_frequencies(config)

    def chain(self, stem, i, leaf="weight"):
        return self.weights.get(f"{stem}.chains.{i}.{leaf}")

    def linear(self, stem, i, x):
        """ChainLinear: chain i of the output from chains 1..i of `x`, a list of [T, width]."""
        y = np.concatenate(x[: i + 1], axis=1) @ self.chain(stem, i).T
        bias = self.chain(stem, i, "bias")
        return y if bias is None else y + bias

    def norm(self, stem, x):
        eps = self.config["rms_norm_eps"]
        return [rms_norm(x_i, self.chain(stem, i), eps) for i, x_i in enumerate(x)]

    def head_norm(self, stem, i, x):
        """The norm of one head of q or k, [T, head_dim], in models that have it."""
        w = self.chain(stem, i)
        return x if w is None else rms_norm(x, w, self.config["rms_norm_eps"])

    def attention(self, layer, x):
        sizes, dim = self.sizes, self.sizes.head_dim

        def head(y, h):
            return y[:, h * dim : (h + 1) * dim]

        mixed = []
        for i in range(len(x)):
            owner = 0 if sizes.air else i
            q = self.linear(f"{layer}.self_attn.q_proj", i, x)
            k = self.linear(f"{layer}.self_attn.k_proj", owner, x)
            v = self.linear(f"{layer}.self_attn.v_proj", owner, x)
            heads = []
            for h in range(sizes.heads[i]):
                shared = h * sizes.kv[owner] // sizes.heads[i]
                normed_q = self.head_norm(f"{layer}.self_attn.q_norm", i, head(q, h))
                normed_k = self.head_norm(f"{layer}.self_attn.k_norm", owner, head(k, shared))
                rotated_q = rotate(normed_q, self.frequencies)
                rotated_k = rotate(normed_k, self.frequencies)
                heads.append(causal_attention(rotated_q, rotated_k, head(v, shared)))
            mixed.append(np.concatenate(heads, axis=1))
        return [self.linear(f"{layer}.self_attn.o_proj", i, mixed) for i in range(len(x))]

    def mlp(self, layer, x):
        inner = []
        for i in range(len(x)):
            gate = self.linear(f"{layer}.mlp.gate_proj", i, x)
            inner.append(silu(gate) * self.linear(f"{layer}.mlp.up_proj", i, x))
        return [self.linear(f"{layer}.mlp.down_proj", i, inner) for i in range(len(x))]

    def logits(self, tokens, k):
        """Logits at k chains, [T, vocab]: later chains are never touched."""
        x = [self.chain("model.embed_tokens", i)[tokens] for i in range(k)]
        for l in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{l}"
            y = self.attention(layer, self.norm(f"{layer}.input_layernorm", x))
            x = [x_i + y_i for x_i, y_i in zip(x, y)]
            y = self.mlp(layer, self.norm(f"{layer}.post_attention_layernorm", x))
            x = [x_i + y_i for x_i, y_i in zip(x, y)]
        z = self.norm("model.norm", x)
        head = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return sum(z[i] @ self.chain(head, i).T for i in range(k))


# --- the model in the paper's own conventions (docs/spec.md#the-papers-own-conventions) -------------------------------


class PaperModel:
    """Written without regard to the layouts and to Model: all heads of k chains in one array, neighbors rotated as
    complex numbers, shared keys and values tiled."""

    def __init__(self, params, tensors):
        self.params = params
        self.tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        self.head_dim = params["dim"] // params["n_heads"]
        self.group = params["n_heads"] // params["n_kv_heads"]

    def bounds(self, width):
        """Where each chain begins and ends in a vector of this width."""
        ends = np.cumsum([width * heads // self.params["n_heads"] for heads in self.params["chains"]])
        return list(zip([0, *ends[:-1]], ends))

    def norm(self, name, x):
        parts = []
        for begin, end in self.bounds(self.params["dim"]):
            if begin < x.shape[1]:
                part = x[:, begin:end]
                scale = 1 / np.sqrt((part**2).mean(1) + self.params["norm_eps"])
                parts.append(part * scale[:, None] * self.tensors[f"{name}.weight"][begin:end])
        return np.hstack(parts)

    def linear(self, name, x, k):
        """A list of matrices, each of which reads as many inputs as it has columns."""
        matrices = [self.tensors[f"{name}.mlps.{i}.weight"] for i in range(k)]
        return np.hstack([x[:, : matrix.shape[1]] @ matrix.T for matrix in matrices])

    def rotations(self, count):
        """The factors of positions 0.. by which the pairs of a head are multiplied, [count, head_dim / 2]."""
        frequencies = self.params["rope_theta"] ** -(np.arange(0, self.head_dim, 2) / self.head_dim)
        scaling = self.params.get("rope_scaling_args")
        if scaling:
            turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            kept = np.clip((turns - low) / (high - low), 0, 1)
            frequencies = frequencies * (kept + (1 - kept) / scaling["scaling_factor"])
        return np.exp(1j * np.outer(np.arange(count), frequencies))

    def rotate(self, x):
        """x [positions, heads, head_dim], elements 2j and 2j + 1 of a head as one complex number."""
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        pairs = pairs * self.rotations(len(x))[:, None, :]
        return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)

    def attention(self, name, x, k):
        def heads(y):
            return y.reshape(len(y), -1, self.head_dim)

        q = self.rotate(heads(self.linear(f"{name}.wq", x, k)))
        if self.params["kv_sharing"]:
            keys, values = (self.tensors[f"{name}.{part}.weight"] for part in ("wk", "wv"))
            first = x[:, : keys.shape[1]]
            repeats = q.shape[1] // self.params["n_kv_heads"]
            keys = np.tile(self.rotate(heads(first @ keys.T)), (1, repeats, 1))
            values = np.tile(heads(first @ values.T), (1, repeats, 1))
        else:
            keys = np.repeat(self.rotate(heads(self.linear(f"{name}.wk", x, k))), self.group, axis=1)
            values = np.repeat(heads(self.linear(f"{name}.wv", x, k)), self.group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, keys) / math.sqrt(self.head_dim)
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, values).reshape(len(x), -1)
        return self.linear(f"{name}.wo", mixed, k)

    def feed_forward(self, name, x, k):
        gate = self.linear(f"{name}.w1", x, k)
        return self.linear(f"{name}.w2", gate / (1 + np.exp(-gate)) * self.linear(f"{name}.w3", x, k), k)

    def logits(self, tokens, k):
        width = self.bounds(self.params["dim"])[k - 1][1]
        x = self.tensors["tok_embeddings.weight"][tokens][:, :width]
        for l in range(self.params["n_layers"]):
            x = x + self.attention(f"layers.{l}.attention", self.norm(f"layers.{l}.attention_norm", x), k)
            x = x + self.feed_forward(f"layers.{l}.feed_forward", self.norm(f"layers.{l}.ffn_norm", x), k)
        return self.norm("norm", x) @ self.tensors["output.weight"][:, :width].T


def mean_nll(logits, tokens):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-np.mean([log_p[t, tokens[t + 1]] for t in range(len(tokens) - 1)]))


# --- the files (docs/spec.md#tensors) ---------------------------------------------------------------------------------


def safetensors_bytes(tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], dtype="<f4")
        end = len(data) + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), end]}
        data += tensor.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def json_bytes(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def chain_layout(config, weights):
    n = len(config["chains"])
    files, placed = {}, {}
    for i in range(n):
        file = f"model-chain-{i + 1:05}-of-{n:05}.safetensors"
        own = {name: tensor for name, tensor in weights.items() if f".chains.{i}." in name}
        placed.update((name, file) for name in own)
        files[file] = safetensors_bytes(own)
    size = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
    files["model.safetensors.index.json"] = json_bytes(index)
    return files


def dense_layout(config, weights):
    """Full matrices with zero blocks. Air's k and v are full in even layers and have chain 1's columns only in odd layers."""
    sizes = Sizes(config)
    dense = {}
    for stem_leaf in sorted({(name.split(".chains.")[0], name.rsplit(".", 1)[1]) for name in weights}):
        stem, leaf = stem_leaf
        blocks = [weights.get(f"{stem}.chains.{i}.{leaf}") for i in range(sizes.n)]
        blocks = [block for block in blocks if block is not None]
        name = f"{stem}.{leaf}"
        if blocks[0].ndim == 1:
            dense[name] = np.concatenate(blocks)
        elif stem in ("model.embed_tokens", "lm_head"):
            dense[name] = np.concatenate(blocks, axis=1)
        else:
            layer, projection = stem.removeprefix("model.layers.").split(".", 1)
            width = sum(sizes.linear(projection)[1])
            if len(blocks) < sizes.n and int(layer) % 2 == 1:
                width = sizes.hidden[0]
            padded = [np.pad(block, [(0, 0), (0, width - block.shape[1])]) for block in blocks]
            dense[name] = np.concatenate(padded, axis=0)
    return {"model.safetensors": safetensors_bytes(dense)}


PAPER_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
}


def params_of(config):
    params = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "chains": config["chains"],
        "hidden_dim": config["intermediate_size"],
        "vocab_size": config["vocab_size"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": config["rope_theta"],
        "max_seq_len": config["max_position_embeddings"],
        "kv_sharing": config["model_type"] == "colm_air",
    }
    scaling = config["rope_scaling"]
    if scaling is not None:
        params["rope_scaling_args"] = {
            "scaling_factor": scaling["factor"],
            **{name: value for name, value in scaling.items() if name not in ("factor", "rope_type")},
        }
    return params


def paper_tensors(config, weights):
    """The weights of the chain layout in the paper's conventions."""
    sizes = Sizes(config)
    dim, shared = sizes.head_dim, sizes.kv[0]

    def neighbors(matrix):
        """Rows j and j + dim / 2 of each head become rows 2j and 2j + 1."""
        return matrix.reshape(-1, 2, dim // 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)

    def tiled(matrix, heads):
        """Head rows ordered by the head they read become ordered by the member of the group that reads it."""
        groups = matrix.reshape(shared, heads // shared, dim, matrix.shape[1])
        return groups.swapaxes(0, 1).reshape(matrix.shape) if sizes.air else matrix

    tensors, dense = {}, {}
    for name, tensor in weights.items():
        stem, rest = name.split(".chains.")
        chain = int(rest.split(".")[0])
        layer, inner = "", stem
        if stem.startswith("model.layers."):
            _, _, number, inner = stem.split(".", 3)
            layer = f"layers.{number}."
        renamed = layer + PAPER_NAMES[inner]
        if inner not in PROJECTIONS:
            dense.setdefault(renamed, {})[chain] = tensor
            continue
        if inner == "self_attn.q_proj":
            tensor = tiled(neighbors(tensor), sizes.heads[chain])
        elif inner == "self_attn.k_proj":
            tensor = neighbors(tensor)
        elif inner == "self_attn.o_proj":
            ends = np.cumsum([heads * dim for heads in sizes.heads[:chain]])
            columns = np.split(tensor, ends, axis=1)
            tensor = np.hstack([tiled(part.T, sizes.heads[i]).T for i, part in enumerate(columns)])
        is_plain = sizes.air and inner in ("self_attn.k_proj", "self_attn.v_proj")
        tensors[f"{renamed}.weight" if is_plain else f"{renamed}.mlps.{chain}.weight"] = tensor
    for name, chains in dense.items():
        tensors[f"{name}.weight"] = np.concatenate([chains[i] for i in range(sizes.n)], axis=-1)
    return tensors


def case_files(seed, layout, fields):
    config = {**fields, **{name: value for name, value in common().items() if name not in fields}}
    weights = random_weights(config, seed)
    tokens = [int(t) for t in np.random.default_rng(1000 + seed).integers(1, VOCAB, TOKENS)]
    model = Model(config, weights)
    n = len(config["chains"])
    logits = {k: model.logits(tokens, k) for k in range(1, n + 1)}
    if layout == "paper":
        params, tensors = params_of(config), paper_tensors(config, weights)
        paper = PaperModel(params, tensors)
        for k in logits:
            ours, logits[k] = logits[k], paper.logits(tokens, k)
            assert np.abs(ours - logits[k]).max() < 1e-12, np.abs(ours - logits[k]).max()
    expected = {"tokens": tokens, "nll": {str(k): mean_nll(logits[k], tokens) for k in logits}}
    if layout == "paper":
        files = {"params.json": json_bytes(params), "consolidated.safetensors": safetensors_bytes(tensors)}
    else:
        files = {"chains": chain_layout, "dense": dense_layout}[layout](config, weights)
        files["config.json"] = json_bytes(config)
    return {
        "expected.json": json_bytes(expected),
        "expected.safetensors": safetensors_bytes({f"logits.{k}": logits[k] for k in logits}),
        **files,
    }


def byte_letters():
    """GPT-2's printable stand-ins for the 256 bytes, as the ByteLevel pre-tokenizer writes them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    letters, unprintable = {}, 0
    for byte in range(256):
        if byte in printable:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + unprintable)
            unprintable += 1
    return letters


def tokenizer_files():
    """Byte-level BPE without merges over 59 characters; 0 is the end of a text."""
    letters = byte_letters()
    alphabet = " \nabcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()+-*/=<>ABCD"
    end = {"content": "<|end|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    vocab = {end["content"]: 0}
    for character in alphabet:
        vocab[letters[ord(character)]] = len(vocab)
    vocab["<|unknown|>"] = len(vocab)
    assert len(vocab) == VOCAB, len(vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, **end, "special": True}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<|unknown|>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": end["content"],
        "eos_token": end["content"],
        "unk_token": "<|unknown|>",
        "model_max_length": 64,
        "chat_template": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    }
    return {"tokenizer.json": json_bytes(tokenizer), "tokenizer_config.json": json_bytes(tokenizer_config)}


def same(path, content):
    """Whether a file has this content. Logits may differ by the rounding of float64 sums on another CPU."""
    if not path.exists():
        return False
    found = path.read_bytes()
    if path.name == "expected.json":
        found, content = json.loads(found), json.loads(content)
        close = all(abs(found["nll"][k] - nll) <= 1e-9 for k, nll in content["nll"].items())
        return found["tokens"] == content["tokens"] and close
    if path.name == "expected.safetensors":
        (found_header,), (header,) = struct.unpack_from("<Q", found), struct.unpack_from("<Q", content)
        start = 8 + header
        if found_header != header or found[:start] != content[:start] or len(found) != len(content):
            return False
        values = [np.frombuffer(data[start:], "<f4") for data in (found, content)]
        return bool(np.abs(values[0] - values[1]).max() <= 1e-6)
    return found == content


def main():
    files = dict(tokenizer_files())
    for name, case in CASES.items():
        files.update((f"{name}/{file}", content) for file, content in case_files(*case).items())
    if "--check" in sys.argv[1:]:
        differ = [file for file, content in files.items() if not same(HERE / file, content)]
        sys.exit("differ: " + ", ".join(differ) if differ else 0)
    for file, content in files.items():
        (HERE / file).parent.mkdir(exist_ok=True)
        (HERE / file).write_bytes(content)
    print(f"{len(CASES)} cases, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()

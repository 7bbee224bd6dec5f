"""The model in float64 (docs/spec.md#layers): full T x T attention, no KV cache, loops over chains and heads."""

import math

import numpy as np

from weights import Sizes


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


def mean_nll(logits, tokens):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-np.mean([log_p[t, tokens[t + 1]] for t in range(len(tokens) - 1)]))

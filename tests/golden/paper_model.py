"""The model in float64, in the paper's own conventions (docs/spec.md#the-papers-own-conventions)."""

import math

import numpy as np


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

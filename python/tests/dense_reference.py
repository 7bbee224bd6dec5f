"""CoLM as one Llama with masked dense matrices, in float64: a second formulation, to compare results and gradients.

It shares no code with the package. All chains are computed in vectors of full width; the model at k chains takes the
first k chains of the last norm.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Weights = dict[str, Tensor]


class DenseReference:
    """The function from the tensors of the chain layout to logits."""

    def __init__(self, fields: dict) -> None:
        self.fields = fields
        self.n = len(fields["chains"])
        self.air = fields["model_type"] == "colm_air"
        self.hidden = self.shares("hidden_size")
        self.heads = self.shares("num_attention_heads")
        kv = fields["num_key_value_heads"]
        self.kv = [kv] + [0] * (self.n - 1) if self.air else self.shares("num_key_value_heads")

    def shares(self, field: str) -> list[int]:
        given = (self.fields.get("chain_widths") or {}).get(field)
        ratios = self.fields["chains"]
        return list(given or [self.fields[field] * ratio // sum(ratios) for ratio in ratios])

    def dense(self, weights: Weights, stem: str) -> Tensor:
        """The full matrix of a projection, with zeros where a chain must not read."""
        blocks = [weights[f"{stem}.chains.{i}.weight"] for i in range(self.n) if f"{stem}.chains.{i}.weight" in weights]
        width = sum(self.heads) * self.head_dim if "o_proj" in stem else sum(self.hidden)
        width = self.fields["intermediate_size"] if "down_proj" in stem else width
        padded = [torch.nn.functional.pad(block, (0, width - block.shape[1])) for block in blocks]
        return torch.cat(padded)

    def linear(self, weights: Weights, stem: str, x: Tensor) -> Tensor:
        y = x @ self.dense(weights, stem).T
        biases = [weights.get(f"{stem}.chains.{i}.bias") for i in range(self.n)]
        return y if biases[0] is None else y + torch.cat([bias for bias in biases if bias is not None])

    def rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.fields["rms_norm_eps"])

    def norm(self, weights: Weights, stem: str, x: Tensor) -> Tensor:
        parts = x.split(self.hidden, dim=-1)
        return torch.cat([self.rms(part, weights[f"{stem}.chains.{i}.weight"]) for i, part in enumerate(parts)], -1)

    @property
    def head_dim(self) -> int:
        return self.fields["head_dim"]

    def head_rows(self, weights: Weights, stem: str, x: Tensor, counts: list[int]) -> Tensor:
        """[length, heads * head_dim] as [heads, length, head_dim], normed where the model has q/k norms."""
        x = x.unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
        if f"{stem}.chains.0.weight" not in weights:
            return x
        owners = [i for i, count in enumerate(counts) for _ in range(count)]
        scale = torch.stack([weights[f"{stem}.chains.{i}.weight"] for i in owners])
        return self.rms(x, scale[:, None, :])

    def kv_of(self) -> list[int]:
        """The key/value head that each query head reads."""
        read, start = [], 0
        for i, heads in enumerate(self.heads):
            own = self.kv[0] if self.air else self.kv[i]
            read += [start + h * own // heads for h in range(heads)]
            start += 0 if self.air else own
        return read

    def rotate(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequencies(self.fields)
        turn = torch.polar(torch.ones_like(angle), angle)
        first, second = x.chunk(2, dim=-1)
        turned = torch.complex(first, second) * turn
        return torch.cat([turned.real, turned.imag], -1)

    def attention(self, weights: Weights, layer: str, x: Tensor) -> Tensor:
        project: Callable[[str], Tensor] = lambda name: self.linear(weights, f"{layer}.self_attn.{name}_proj", x)  # noqa: E731
        q = self.rotate(self.head_rows(weights, f"{layer}.self_attn.q_norm", project("q"), self.heads))
        k = self.rotate(self.head_rows(weights, f"{layer}.self_attn.k_norm", project("k"), self.kv))
        v = project("v").unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
        read = self.kv_of()
        scores = q @ k[read].transpose(1, 2) / math.sqrt(self.head_dim)
        later = torch.ones(x.shape[0], x.shape[0], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ v[read]
        return self.linear(weights, f"{layer}.self_attn.o_proj", mixed.transpose(0, 1).flatten(1))

    def mlp(self, weights: Weights, layer: str, x: Tensor) -> Tensor:
        gate = self.linear(weights, f"{layer}.mlp.gate_proj", x)
        inner = gate * gate.sigmoid() * self.linear(weights, f"{layer}.mlp.up_proj", x)
        return self.linear(weights, f"{layer}.mlp.down_proj", inner)

    def logits(self, weights: Weights, tokens: Tensor) -> list[Tensor]:
        """Logits [length, vocab] of one sequence at k = 1, 2, .. n."""
        chains = range(self.n)
        x = torch.cat([weights[f"model.embed_tokens.chains.{i}.weight"][tokens] for i in chains], -1)
        for number in range(self.fields["num_hidden_layers"]):
            layer = f"model.layers.{number}"
            x = x + self.attention(weights, layer, self.norm(weights, f"{layer}.input_layernorm", x))
            x = x + self.mlp(weights, layer, self.norm(weights, f"{layer}.post_attention_layernorm", x))
        z = self.norm(weights, "model.norm", x)
        head = "model.embed_tokens" if self.fields.get("tie_word_embeddings") else "lm_head"
        joined = torch.cat([weights[f"{head}.chains.{i}.weight"] for i in chains], 1)
        ends = [sum(self.hidden[: k + 1]) for k in chains]
        return [z[:, :end] @ joined[:, :end].T for end in ends]


def frequencies(fields: dict) -> Tensor:
    """RoPE's frequencies in float64, with Llama 3's rescaling."""
    half = fields["head_dim"] // 2
    rope = fields.get("rope_parameters") or {"rope_theta": fields["rope_theta"], **(fields.get("rope_scaling") or {})}
    plain = rope["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    if rope.get("rope_type", "default") == "default":
        return plain
    wavelengths = 2 * math.pi / plain
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = ((rope["original_max_position_embeddings"] / wavelengths - low) / (high - low)).clamp(0, 1)
    return kept * plain + (1 - kept) * plain / rope["factor"]


class ExactRotation(torch.nn.Module):
    """RoPE's cosines and sines in float64, in place of the module that computes them in float32."""

    def __init__(self, fields: dict) -> None:
        super().__init__()
        self.frequencies = frequencies(fields)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angle = position_ids[..., None].to(torch.float64) * self.frequencies
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)

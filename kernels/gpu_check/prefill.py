"""A whole prefill in the shape of Llama-3.2-1B: CoLM-Air and one chain on these kernels, and the dense
model in PyTorch."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import reference
from library import LINEAR_LAUNCHERS, Matrix, Rows
from table import Row
from timing import captured, medians

DTYPE = torch.bfloat16
EPS = 1e-5


@dataclass
class Shape:
    hidden: int = 2048
    intermediate: int = 8192
    layers: int = 16
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 64
    vocabulary: int = 128256
    theta: float = 5e5
    block_size: int = 64


def weight(device, outputs, inputs):
    return torch.randn(outputs, inputs, device=device, dtype=DTYPE) * inputs**-0.5


class AirPrefill:
    """The launches of one prompt: chain 1 at all tokens, the later chains at the last one
    (docs/spec.md#prefix-chain-prefill). With one chain it is Llama. Weights and inputs are random.
    Buffers are allocated once."""

    def __init__(self, kernels, shape, chains, tokens, launcher):
        self.kernels, self.shape, self.chains, self.tokens = kernels, shape, chains, tokens
        self.launcher = launcher
        self.device = kernels.device
        all_rows = list(range(tokens))
        self.rows = Rows.nested([all_rows] + [all_rows[-1:]] * (chains - 1), self.device)
        self.last = Rows.same(chains, 1)
        self.positions = torch.arange(tokens, dtype=torch.int32, device=self.device)
        self.cos, self.sin = reference.rope_tables(tokens, shape.head_dim, shape.theta, self.device)
        self.hidden = self.per_chain(shape.hidden)
        blocks = -(-tokens // shape.block_size)
        self.tables = torch.randperm(blocks, device=self.device).to(torch.int32)[None].contiguous()
        slots = self.tables[0].long()[:, None] * shape.block_size
        slots = slots + torch.arange(shape.block_size, device=self.device)
        self.slots = slots.flatten()[:tokens].contiguous()
        heads = shape.heads // chains
        ranges = [(chain, 0, tokens - count, count, 0) for chain, count in enumerate(self.rows.counts)]
        self.plan = kernels.attention_plan(
            [(heads, 0, shape.kv_heads)] * chains, ranges, shape.head_dim)
        self.layers = []
        self.launches = [self.embed(shape.vocabulary)]
        for _ in range(shape.layers):
            self.launches += self.block()
        self.launches += self.head()

    def per_chain(self, width):
        return [torch.empty(count, width // self.chains, dtype=DTYPE, device=self.device)
                for count in self.rows.counts]

    def layer(self, outputs, inputs, y, up=False, residual=None):
        """W_i of every chain of a layer [outputs, inputs]."""
        out, read = outputs // self.chains, inputs // self.chains
        return [Matrix(weight(self.device, out, read * (chain + 1)),
                      up=weight(self.device, out, read * (chain + 1)) if up else None,
                      residual=residual[chain] if residual else None, y=y[chain])
                for chain in range(self.chains)]

    def norm(self, x, y):
        weights = [torch.ones(part.shape[1], dtype=DTYPE, device=self.device) for part in x]
        return self.kernels.norm(x, weights, EPS, y)

    def embed(self, vocabulary):
        part = self.shape.hidden // self.chains
        self.embedding = weight(self.device, vocabulary, part)
        self.tokens_in = torch.randint(vocabulary, (self.tokens,), device=self.device)

        def run():
            # The chains share their embedding, which does not affect the time.
            for hidden in self.hidden:
                last = self.tokens_in[-hidden.shape[0]:]
                torch.index_select(self.embedding, 0, last, out=hidden)

        return run

    def block(self):
        shape, hidden, kernels = self.shape, self.hidden, self.kernels
        linear = lambda x, layers: kernels.linear(x, self.rows, layers, self.launcher)
        normed, attended, q = (self.per_chain(shape.hidden) for _ in range(3))
        inner = self.per_chain(shape.intermediate)
        kv_width = shape.kv_heads * shape.head_dim
        new_keys, new_values = (
            torch.empty(self.tokens, kv_width, dtype=DTYPE, device=self.device) for _ in range(2))
        read = shape.hidden // self.chains
        kv = [[Matrix(weight(self.device, kv_width, read), y=y)] for y in (new_keys, new_values)]
        cache = (self.tables.shape[1], shape.kv_heads, shape.block_size, shape.head_dim)
        keys, values = (torch.empty(cache, dtype=DTYPE, device=self.device) for _ in range(2))
        heads = lambda tensor: tensor.view(tensor.shape[0], -1, shape.head_dim)
        queries, results = [heads(part) for part in q], [heads(part) for part in attended]
        layer = {
            "qkv": [self.layer(shape.hidden, shape.hidden, q), *kv],
            "o": [self.layer(shape.hidden, shape.hidden, hidden, residual=hidden)],
            "gate_up": [self.layer(shape.intermediate, shape.hidden, inner, up=True)],
            "down": [self.layer(shape.hidden, shape.intermediate, hidden, residual=hidden)],
        }
        self.layers.append(layer)
        launches = [self.norm(hidden, normed), linear(normed, layer["qkv"])]
        for part, count in zip(queries, self.rows.counts):
            positions = self.positions[-count:].contiguous()
            launches.append(kernels.rope(part, part, self.cos, self.sin, positions))
        launches += [
            kernels.kv_write(heads(new_keys), heads(new_values), 0, self.cos, self.sin, self.positions,
                             self.slots, keys, values),
            kernels.attention(self.plan, queries, results, keys, values, self.tables,
                              shape.head_dim**-0.5),
            linear(attended, layer["o"]),
            self.norm(hidden, normed),
            linear(normed, layer["gate_up"]),
            linear(inner, layer["down"]),
        ]
        return launches

    def head(self):
        """The logits at the last token. The sum of U_i z_i is computed as one product over all chains."""
        part = self.shape.hidden // self.chains
        last = [chain[-1:] for chain in self.hidden]
        z = [torch.empty(1, part, dtype=DTYPE, device=self.device) for _ in last]
        self.logits = torch.empty(1, self.shape.vocabulary, dtype=DTYPE, device=self.device)
        joined = torch.empty(1, self.shape.hidden, dtype=DTYPE, device=self.device)
        unembedding = weight(self.device, self.shape.vocabulary, self.shape.hidden)
        self.unembedding = Matrix(unembedding, y=self.logits)
        return [
            self.norm(last, z),
            lambda: torch.cat(z, dim=1, out=joined),
            self.kernels.linear([joined], Rows.same(1, 1), [[self.unembedding]]),
        ]

    def run(self):
        for launch in self.launches:
            launch()

    def expected(self):
        """The logits according to the formulas, in float64."""
        shape, rows = self.shape, self.rows
        heads = lambda x: x.view(x.shape[0], -1, shape.head_dim)
        rotated = lambda x: reference.rope(x, self.cos, self.sin, self.positions[-x.shape[0]:])
        normed = lambda xs: [reference.rms_norm(x, torch.ones_like(x[0]), EPS) for x in xs]
        products = lambda x, matrices: [
            reference.linear(x, rows, replace(matrix, residual=None), chain)
            for chain, matrix in enumerate(matrices)]
        hidden = [self.embedding[self.tokens_in[-count:]].double() for count in rows.counts]
        for layer in self.layers:
            q, (keys,), (values,) = (products(normed(hidden), matrices) for matrices in layer["qkv"])
            keys, values = rotated(heads(keys)), heads(values)
            attended = [
                reference.attention(turned(heads(part)), keys, values, self.tokens - part.shape[0],
                                    shape.head_dim**-0.5).flatten(1)
                for part in q]
            hidden = [x + y for x, y in zip(hidden, products(attended, *layer["o"]))]
            inner = products(normed(hidden), *layer["gate_up"])
            hidden = [x + y for x, y in zip(hidden, products(inner, *layer["down"]))]
        last = torch.cat(normed([x[-1:] for x in hidden]), dim=1)
        return last @ self.unembedding.weight.double().T


class DensePrefill:
    """Llama in PyTorch in eager mode, with cuBLAS and flash attention."""

    def __init__(self, shape, tokens):
        self.shape, self.tokens, device = shape, tokens, "cuda"
        kv = shape.kv_heads * shape.head_dim
        widths = [(shape.hidden + 2 * kv, shape.hidden), (shape.hidden, shape.hidden),
                  (2 * shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)]
        self.layers = [[weight(device, *width) for width in widths] for _ in range(shape.layers)]
        self.norm_weight = torch.ones(shape.hidden, dtype=DTYPE, device=device)
        self.embedding = weight(device, shape.vocabulary, shape.hidden)
        self.tokens_in = torch.randint(shape.vocabulary, (tokens,), device=device)
        cos, sin = reference.rope_tables(tokens, shape.head_dim, shape.theta, device)
        self.cos = torch.cat([cos, cos], dim=1).to(DTYPE)[:, None]
        self.sin = torch.cat([sin, sin], dim=1).to(DTYPE)[:, None]

    def norm(self, x):
        return F.rms_norm(x, (self.shape.hidden,), self.norm_weight, EPS)

    def rope(self, x):
        left, right = x.chunk(2, dim=2)
        return x * self.cos + torch.cat([-right, left], dim=2) * self.sin

    def run(self):
        shape = self.shape
        kv = shape.kv_heads * shape.head_dim
        x = F.embedding(self.tokens_in, self.embedding)
        for qkv, o, gate_up, down in self.layers:
            q, keys, values = F.linear(self.norm(x), qkv).split([shape.hidden, kv, kv], dim=1)
            q, keys, values = (part.view(self.tokens, -1, shape.head_dim) for part in (q, keys, values))
            q, keys, values = (
                part.transpose(0, 1)[None] for part in (self.rope(q), self.rope(keys), values))
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                attended = F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=True)
            x = x + F.linear(attended[0].transpose(0, 1).reshape(self.tokens, -1), o)
            gate, up = F.linear(self.norm(x), gate_up).chunk(2, dim=1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(self.norm(x[-1:]), self.embedding)


def flops(shape, chains, tokens):
    """The FLOPs of chain 1 at all tokens; the rest is about a thousandth of that."""
    hidden, intermediate = shape.hidden // chains, shape.intermediate // chains
    kv = shape.kv_heads * shape.head_dim
    weights = hidden * (2 * hidden + 2 * kv + 3 * intermediate)
    attention = 2 * tokens * tokens * shape.head_dim * shape.heads // chains
    return shape.layers * (2 * tokens * weights + attention)


def rows(kernels, tokens=8192):
    shape = Shape()
    fewer = flops(shape, 1, tokens) / flops(shape, 4, tokens)
    dense = DensePrefill(shape, tokens)
    for launcher in LINEAR_LAUNCHERS:
        air, one = (AirPrefill(kernels, shape, chains, tokens, launcher) for chains in (4, 1))
        with torch.no_grad():
            times = medians({"air": captured([air.run]), "one": captured([one.run]),
                             "dense": captured([dense.run])}, rounds=10)
        for logits in (air.logits, one.logits):
            assert logits.isfinite().all(), "the logits of a prefill are not finite"
        detail = (f"Air {times['air']:.2f} ms, one chain {times['one']:.2f} ms, "
                  f"PyTorch {times['dense']:.2f} ms; {fewer:.1f} times fewer FLOPs")
        what = (f"prefill of {tokens} tokens, Llama-3.2-1B's shape, Air [8, 8, 8, 8] by "
                f"{launcher.removeprefix('colm_')}")
        yield Row(f"{what}, to one chain on the same kernels", times["one"] / times["air"], 8, 12, detail)
        yield Row(f"{what}, to PyTorch's dense Llama", times["dense"] / times["air"], 8, 12, detail)

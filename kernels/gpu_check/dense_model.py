"""Llama in PyTorch in eager mode, with cuBLAS and PyTorch's attention: what the kernels are compared with."""

import torch
import torch.nn.functional as F

import reference
from chain_model import DTYPE, EPS, weight
from timing import DEVICE


class DenseModel:
    """One step: `sequences` with `cached` positions and `new` rows each."""

    def __init__(self, shape, new, cached=0, sequences=1):
        self.shape, self.new, self.cached, self.sequences = shape, new, cached, sequences
        kv = shape.kv_heads * shape.head_dim
        widths = [(shape.hidden + 2 * kv, shape.hidden), (shape.hidden, shape.hidden),
                  (2 * shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)]
        self.layers = [[weight(DEVICE, *width) for width in widths] for _ in range(shape.layers)]
        self.norm_weight = torch.ones(shape.hidden, dtype=DTYPE, device=DEVICE)
        self.embedding = weight(DEVICE, shape.vocabulary, shape.hidden)
        self.tokens = torch.randint(shape.vocabulary, (sequences, new), device=DEVICE)
        cos, sin = reference.rope_tables(cached + new, shape.head_dim, shape.theta, DEVICE)
        self.cos, self.sin = (torch.cat([table, table], dim=1)[cached:].to(DTYPE) for table in (cos, sin))
        cache = (sequences, shape.kv_heads, cached + new, shape.head_dim)
        self.caches = [[torch.randn(cache, dtype=DTYPE, device=DEVICE) for _ in range(2)]
                       for _ in range(shape.layers)]

    def norm(self, x):
        return F.rms_norm(x, (self.shape.hidden,), self.norm_weight, EPS)

    def rope(self, x):
        left, right = x.chunk(2, dim=3)
        return x * self.cos + torch.cat([-right, left], dim=3) * self.sin

    def heads(self, x):
        return x.view(self.sequences, self.new, -1, self.shape.head_dim).transpose(1, 2)

    def attend(self, qkv, cache):
        kv = self.shape.kv_heads * self.shape.head_dim
        q, *new = (self.heads(part) for part in qkv.split([self.shape.hidden, kv, kv], dim=2))
        new[0] = self.rope(new[0])
        for part, rows in zip(cache, new):
            part[:, :, self.cached :] = rows
        attended = F.scaled_dot_product_attention(
            self.rope(q), *cache, is_causal=self.new > 1, enable_gqa=True)
        return attended.transpose(1, 2).reshape(self.sequences, self.new, -1)

    def run(self):
        x = F.embedding(self.tokens, self.embedding)
        for (qkv, o, gate_up, down), cache in zip(self.layers, self.caches):
            x = x + F.linear(self.attend(F.linear(self.norm(x), qkv), cache), o)
            gate, up = F.linear(self.norm(x), gate_up).chunk(2, dim=2)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(self.norm(x[:, -1]), self.embedding)

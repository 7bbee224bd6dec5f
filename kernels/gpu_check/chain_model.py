"""The launches of one step of a whole model on the kernels, and the same step according to the formulas."""

from dataclasses import dataclass, replace

import torch

import reference
from library import Matrix, Rows

DTYPE = torch.bfloat16
EPS = 1e-5


@dataclass
class Shape:
    """The shape of Llama-3.2-1B."""

    hidden: int = 2048
    intermediate: int = 8192
    layers: int = 16
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 64
    vocabulary: int = 128256
    theta: float = 5e5
    block_size: int = 64


SMALL = Shape(hidden=512, intermediate=256, layers=2, heads=8, kv_heads=2, vocabulary=64)


def weight(device, outputs, inputs):
    return torch.randn(outputs, inputs, device=device, dtype=DTYPE) * inputs**-0.5


class ChainModel:
    """CoLM-Air, or with one chain Llama. Weights, inputs and cached keys are random. Buffers are allocated once.

    Every sequence has `cached` positions and `new` rows. Chain 1 is computed at all new rows, the later chains at the
    last of each sequence (docs/spec.md#prefix-chain-prefill), where the logits are.
    """

    def __init__(self, kernels, shape, chains, launcher, new, cached=0, sequences=1):
        self.kernels, self.shape, self.chains, self.launcher = kernels, shape, chains, launcher
        self.device = kernels.device
        self.new, self.cached, self.sequences = new, cached, sequences
        every_row = list(range(sequences * new))
        last = every_row[new - 1 :: new]
        self.rows = Rows.nested([every_row] + [last] * (chains - 1), self.device)
        self.last = torch.tensor(last, device=self.device)
        new_positions = torch.arange(cached, cached + new, dtype=torch.int32, device=self.device)
        self.positions = new_positions.repeat(sequences)
        self.cos, self.sin = reference.rope_tables(cached + new, shape.head_dim, shape.theta, self.device)
        blocks = -(-(cached + new) // shape.block_size)
        order = torch.randperm(sequences * blocks, device=self.device)
        self.tables = order.to(torch.int32).view(sequences, blocks).contiguous()
        self.slots = self.slots_of(new_positions.long()).flatten().contiguous()
        self.hidden = self.per_chain(shape.hidden)
        self.plan = kernels.attention_plan(
            [(shape.heads // chains, 0, shape.kv_heads)] * chains, self.ranges(), shape.head_dim)
        self.layers = []
        self.launches = [self.embed()]
        for _ in range(shape.layers):
            self.launches += self.block()
        self.launches += self.head()

    def slots_of(self, positions):
        """[sequences, positions]"""
        size = self.shape.block_size
        return self.tables.long()[:, positions // size] * size + positions % size

    def ranges(self):
        rows = lambda chain: self.new if chain == 0 else 1
        return [(chain, sequence, self.cached + self.new - rows(chain), rows(chain), sequence * rows(chain))
                for chain in range(self.chains) for sequence in range(self.sequences)]

    def of_chain(self, tensor, chain):
        """The rows of a chain of a tensor with all rows."""
        return tensor if chain == 0 else tensor[self.last]

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

    def linear(self, x, layers):
        return self.kernels.linear(x, self.rows, layers, self.launcher)

    def embed(self):
        part = self.shape.hidden // self.chains
        # The chains share their embedding, which does not affect the time.
        self.embedding = weight(self.device, self.shape.vocabulary, part)
        tokens = torch.randint(self.shape.vocabulary, (len(self.positions),), device=self.device)
        self.tokens = [self.of_chain(tokens, chain) for chain in range(self.chains)]

        def run():
            for hidden, tokens in zip(self.hidden, self.tokens):
                torch.index_select(self.embedding, 0, tokens, out=hidden)

        return run

    def block(self):
        shape, hidden, kernels = self.shape, self.hidden, self.kernels
        normed, attended, q = (self.per_chain(shape.hidden) for _ in range(3))
        inner = self.per_chain(shape.intermediate)
        kv_width = shape.kv_heads * shape.head_dim
        new_keys, new_values = (
            torch.empty(len(self.positions), kv_width, dtype=DTYPE, device=self.device) for _ in range(2))
        read = shape.hidden // self.chains
        kv = [[Matrix(weight(self.device, kv_width, read), y=y)] for y in (new_keys, new_values)]
        cache = (self.tables.numel(), shape.kv_heads, shape.block_size, shape.head_dim)
        keys, values = (torch.randn(cache, dtype=DTYPE, device=self.device) for _ in range(2))
        heads = lambda tensor: tensor.view(tensor.shape[0], -1, shape.head_dim)
        queries, results = [heads(part) for part in q], [heads(part) for part in attended]
        layer = {
            "qkv": [self.layer(shape.hidden, shape.hidden, q), *kv],
            "o": [self.layer(shape.hidden, shape.hidden, hidden, residual=hidden)],
            "gate_up": [self.layer(shape.intermediate, shape.hidden, inner, up=True)],
            "down": [self.layer(shape.hidden, shape.intermediate, hidden, residual=hidden)],
            "cache": (keys, values),
        }
        self.layers.append(layer)
        launches = [self.norm(hidden, normed), self.linear(normed, layer["qkv"])]
        for chain, part in enumerate(queries):
            positions = self.of_chain(self.positions, chain).contiguous()
            launches.append(kernels.rope(part, part, self.cos, self.sin, positions))
        launches += [
            kernels.kv_write(heads(new_keys), heads(new_values), 0, self.cos, self.sin, self.positions,
                             self.slots, keys, values),
            kernels.attention(self.plan, queries, results, keys, values, self.tables, shape.head_dim**-0.5),
            self.linear(attended, layer["o"]),
            self.norm(hidden, normed),
            self.linear(normed, layer["gate_up"]),
            self.linear(inner, layer["down"]),
        ]
        return launches

    def head(self):
        """The logits of every sequence. The sum of U_i z_i is computed as one product over all chains."""
        shape, count = self.shape, self.sequences
        buffer = lambda width: torch.empty(count, width, dtype=DTYPE, device=self.device)
        z = [buffer(shape.hidden // self.chains) for _ in range(self.chains)]
        last = [torch.empty_like(z[0]), *self.hidden[1:]]
        self.logits, joined = buffer(shape.vocabulary), buffer(shape.hidden)
        self.unembedding = Matrix(weight(self.device, shape.vocabulary, shape.hidden), y=self.logits)
        return [
            lambda: torch.index_select(self.hidden[0], 0, self.last, out=last[0]),
            self.norm(last, z),
            lambda: torch.cat(z, dim=1, out=joined),
            self.kernels.linear([joined], Rows.same(1, count), [[self.unembedding]]),
        ]

    def run(self):
        for launch in self.launches:
            launch()

    def bytes_read(self):
        """The bytes of all weights, except the embedding, and of the cached keys and values."""
        matrices = [matrix for layer in self.layers for name in ("qkv", "o", "gate_up", "down")
                    for product in layer[name] for matrix in product]
        weights = [part for matrix in [*matrices, self.unembedding] for part in (matrix.weight, matrix.up)
                   if part is not None]
        kv = 2 * self.shape.layers * self.shape.kv_heads * self.shape.head_dim * self.cached * self.sequences
        return 2 * (sum(part.numel() for part in weights) + kv)

    def expected(self):
        """The logits according to the formulas, in float64."""
        shape, rows = self.shape, self.rows
        heads = lambda x: x.view(x.shape[0], -1, shape.head_dim)
        normed = lambda xs: [reference.rms_norm(x, torch.ones_like(x[0]), EPS) for x in xs]
        products = lambda x, matrices: [
            reference.linear(x, rows, replace(matrix, residual=None), chain)
            for chain, matrix in enumerate(matrices)]
        hidden = [self.embedding[tokens].double() for tokens in self.tokens]
        for layer in self.layers:
            q, (keys,), (values,) = (products(normed(hidden), matrices) for matrices in layer["qkv"])
            keys = reference.rope(heads(keys), self.cos, self.sin, self.positions)
            attended = self.attend(q, keys, heads(values), layer["cache"])
            hidden = [x + y for x, y in zip(hidden, products(attended, *layer["o"]))]
            inner = products(normed(hidden), *layer["gate_up"])
            hidden = [x + y for x, y in zip(hidden, products(inner, *layer["down"]))]
        last = torch.cat(normed([hidden[0][self.last], *hidden[1:]]), dim=1)
        return last @ self.unembedding.weight.double().T

    def attend(self, q, new_keys, new_values, cache):
        """Attention of every chain, over the cached positions and the new ones."""
        shape = self.shape
        cached_slots = self.slots_of(torch.arange(self.cached, device=self.device))
        by_slot = [part.transpose(1, 2).reshape(-1, shape.kv_heads, shape.head_dim) for part in cache]
        outs = []
        for chain, part in enumerate(q):
            part = part.view(part.shape[0], -1, shape.head_dim)
            part = reference.rope(part, self.cos, self.sin, self.of_chain(self.positions, chain))
            rows = part.shape[0] // self.sequences
            own = []
            for sequence in range(self.sequences):
                mine = slice(sequence * self.new, (sequence + 1) * self.new)
                keys, values = (
                    torch.cat([old[cached_slots[sequence]].double(), new[mine]])
                    for old, new in zip(by_slot, (new_keys, new_values)))
                queries = part[sequence * rows : (sequence + 1) * rows]
                first = self.cached + self.new - rows
                own.append(reference.attention(queries, keys, values, first, shape.head_dim**-0.5))
            outs.append(torch.cat(own).flatten(1))
        return outs

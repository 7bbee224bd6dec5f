"""Compares every kernel with the formulas in float64, on random inputs.

    correctness.py LIBRARY [--small] [--cpu] [--seed N] [--json FILE]

`--small` is for the sanitizers and for the twin, the CPU emulator, which also needs `--cpu`. Every launch
is made twice and must give the same bits. Prints the largest relative error per kernel and dtype. Exits 1
if one is too large.
"""

import argparse
import json
import random

import torch

import reference
from library import LINEAR_LAUNCHERS, MAX_SKINNY_ROWS, Kernels, Matrix, Rows, poisoned
from prefill import DTYPE, AirPrefill, Shape

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
EPS = 1e-5
DECODE = ["colm_chain_linear_decode"]


class Check:
    def __init__(self, kernels, device, dtype, small):
        self.kernels, self.device, self.dtype, self.small = kernels, device, dtype, small
        self.worst = {}

    def tensor(self, *shape):
        return torch.randn(shape, device=self.device).to(self.dtype)

    def integers(self, values, dtype):
        return torch.tensor(values, device=self.device, dtype=dtype)

    def twice(self, launch, results):
        """Launches twice: with a race, the bits would most likely differ."""
        launch()
        first = [result.clone() for result in results]
        for result in results:
            result.fill_(float("nan"))
        launch()
        for before, after in zip(first, results):
            if not torch.equal(before, after):
                raise SystemExit("two launches on the same inputs differ, or left NaN")

    def note(self, kernel, found, expected, allowed=None):
        error = reference.relative_error(found, expected)
        # Not `>=`, so that NaN fails.
        if not error < (allowed or TOLERANCE[self.dtype]):
            raise SystemExit(f"{kernel} {self.dtype}: relative error {error}")
        name = f"{kernel} {str(self.dtype).removeprefix('torch.')}"
        self.worst[name] = max(self.worst.get(name, 0.0), error)

    # Linear layers

    def layer(self, widths, rows, outputs, gated, bias, residual):
        matrices = []
        for chain, out in enumerate(outputs):
            inputs = sum(widths[: chain + 1])
            some = lambda wanted, *shape: self.tensor(*shape) if wanted else None
            scale = inputs**-0.5
            matrices.append(Matrix(
                weight=self.tensor(out, inputs) * scale,
                up=self.tensor(out, inputs) * scale if gated else None,
                bias=some(bias, out),
                up_bias=some(bias and gated, out),
                residual=some(residual, rows.counts[chain], out)))
        return matrices

    def linear(self, widths, rows, kinds, launchers=LINEAR_LAUNCHERS):
        """`kinds`: per layer (outputs per chain, gated, bias, residual)."""
        x = [self.tensor(count, width) for count, width in zip(rows.counts, widths)]
        layers = [self.layer(widths, rows, *kind) for kind in kinds]
        results = [(chain, matrix) for layer in layers for chain, matrix in enumerate(layer)]
        expected = [reference.linear(x, rows, matrix, chain) for chain, matrix in results]
        for launcher in launchers:
            launch = self.kernels.linear(x, rows, layers, launcher)
            self.twice(launch, [matrix.y for _, matrix in results])
            for (_, matrix), formula in zip(results, expected):
                self.note(launcher.removeprefix("colm_"), matrix.y, formula)

    def nested(self, counts):
        rows = [sorted(random.sample(range(counts[0]), counts[0]))]
        for count in counts[1:]:
            rows.append(sorted(random.sample(rows[-1], count)))
        return Rows.nested(rows, self.device)

    def linears(self):
        unit = 32 if self.small else 512
        widths, outputs = [unit, unit, unit // 2, 8], [unit, 2 * unit + 8, 24, unit // 2]
        counts = [150, 40, 7, 1] if self.small else [1500, 1500, 300, 3]
        for rows in [Rows.same(4, counts[1]), self.nested(counts)]:
            self.linear(widths, rows, [(outputs, False, False, False)])
            self.linear(widths, rows, [(outputs, False, True, True)])
            self.linear(widths, rows, [(outputs, True, False, False)])
            self.linear(widths, rows, [(outputs, True, True, True)])
            # Air's queries, keys and values.
            qkv = [(outputs, False, True, False)] + [(outputs[:1], False, True, False)] * 2
            self.linear(widths, rows, qkv)
        for count in [1, 5] if self.small else [1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32]:
            same = Rows.same(4, count)
            self.linear(widths, same, [(outputs, False, True, True)], DECODE)
            self.linear(widths, same, [(outputs, True, False, False)], DECODE)
        self.linear(widths, self.nested([8, 4, 2, 1]), [(outputs, False, False, True)], DECODE)
        self.own_bits(widths, outputs)

    def own_bits(self, widths, outputs):
        """A row has the same bits alone and in a decode batch."""
        x = [self.tensor(MAX_SKINNY_ROWS, width) for width in widths]
        rows = Rows.same(4, MAX_SKINNY_ROWS)
        layer = self.layer(widths, rows, outputs, False, True, False)
        self.kernels.linear(x, rows, [layer])()
        for row in random.sample(range(MAX_SKINNY_ROWS), 3):
            alone = [Matrix(matrix.weight, bias=matrix.bias) for matrix in layer]
            self.kernels.linear([t[row : row + 1].clone() for t in x], Rows.same(4, 1), [alone])()
            for one, matrix in zip(alone, layer):
                if not torch.equal(one.y[0], matrix.y[row]):
                    raise SystemExit("a row's bits depend on the other rows of the batch")

    # Norms

    def norms(self):
        shapes = [(70, 64), (5, 2048), (0, 16)] if self.small else [(3000, 512), (700, 2048), (9, 8192)]
        x = [self.tensor(*shape) for shape in shapes]
        weights = [self.tensor(shape[1]) for shape in shapes]
        y = [poisoned(shape, x[0]) for shape in shapes]
        self.twice(self.kernels.norm(x, weights, EPS, y), y)
        for tensors in zip(y, x, weights):
            self.note("chain_rms_norm", tensors[0], reference.rms_norm(*tensors[1:], EPS))

    # Attention

    def attentions(self):
        last = 300 if self.small else 1500
        for head_dim in [32, 64, 128]:
            # CoLM: every chain has its own heads. Air: all chains read those of chain 1.
            for heads in [[(4, 0, 2), (2, 2, 1)], [(4, 0, 2), (2, 0, 2)]]:
                self.attention(head_dim, heads, lengths=[last, 17, 260], new=[last, 17, 1])
            self.attention(head_dim, [(2, 0, 1)] * 2, lengths=[5, last], new=[1, 3])

    def attention(self, head_dim, heads, lengths, new, block_size=32):
        """Sequences of `lengths` positions. Chain 1 computes the last `new` of them, the later chains
        the last one."""
        kv_heads = max(first + count for _, first, count in heads)
        cache = Cache(self, lengths, kv_heads, head_dim, block_size)
        cache.fill()
        ranges, q = [], []
        for chain, (count, _, _) in enumerate(heads):
            computed = new if chain == 0 else [1] * len(new)
            first_row = 0
            for sequence, (length, rows) in enumerate(zip(lengths, computed)):
                ranges.append((chain, sequence, length - rows, rows, first_row))
                first_row += rows
            q.append(self.tensor(first_row, count, head_dim))
        out = [poisoned(queries.shape, queries) for queries in q]
        plan = self.kernels.attention_plan(heads, ranges, head_dim)
        scale = head_dim**-0.5
        launch = self.kernels.attention(plan, q, out, cache.keys, cache.values, cache.tables, scale)
        self.twice(launch, out)
        for chain, sequence, first, rows, first_row in ranges:
            _, start, count = heads[chain]
            cached = (cache.rotated_keys, cache.values_by_position)
            keys, values = (tensor[sequence][:, start : start + count] for tensor in cached)
            mine = slice(first_row, first_row + rows)
            expected = reference.attention(q[chain][mine], keys, values, first, scale)
            self.note("chain_attention", out[chain][mine], expected)

    def ropes(self):
        rows, heads, head_dim = 50, 3, 64
        cos, sin = reference.rope_tables(1000, head_dim, 5e5, self.device)
        positions = self.integers([random.randrange(1000) for _ in range(rows)], torch.int32)
        x = self.tensor(rows, heads, head_dim)
        out = poisoned(x.shape, x)
        self.twice(self.kernels.rope(x, out, cos, sin, positions), [out])
        self.note("rope", out, reference.rope(x, cos, sin, positions))

    def prefill(self):
        """The model that prefill.py times, in a small shape."""
        shape = Shape(hidden=512, intermediate=256, layers=2, heads=8, kv_heads=2, vocabulary=64)
        for launcher in LINEAR_LAUNCHERS:
            for chains in [4, 1]:
                model = AirPrefill(self.kernels, shape, chains, 70, launcher)
                model.run()
                # Two layers of rounding to bf16.
                self.note("prefill", model.logits, model.expected(), allowed=4 * TOLERANCE[DTYPE])


class Cache:
    """Paged keys and values of random sequences, in KV blocks in random order, written by kv_write."""

    def __init__(self, check, lengths, kv_heads, head_dim, block_size):
        self.check, self.lengths, self.head_dim = check, lengths, head_dim
        needed = [-(-length // block_size) for length in lengths]
        free = list(range(sum(needed) + 3))
        random.shuffle(free)
        table = [[free.pop() for _ in range(count)] for count in needed]
        width = max(needed)
        self.block_size, self.table = block_size, table
        self.tables = check.integers([row + [0] * (width - len(row)) for row in table], torch.int32)
        shape = (sum(needed) + 3, kv_heads, block_size, head_dim)
        # NaN, so that reads of unwritten positions are detected.
        self.keys, self.values = (poisoned(shape, check.tensor(1)) for _ in range(2))

    def fill(self):
        """Writes all rows in random order, with a padding row. Sets `rotated_keys` and
        `values_by_position` to what the cache then holds."""
        check = self.check
        rows_written = [(s, p) for s, length in enumerate(self.lengths) for p in range(length)]
        random.shuffle(rows_written)
        slots = [self.table[s][p // self.block_size] * self.block_size + p % self.block_size
                 for s, p in rows_written]
        slots, positions = [-1] + slots, [0] + [p for _, p in rows_written]
        heads = self.keys.shape[1]
        keys, values = (check.tensor(len(slots), heads, self.head_dim) for _ in range(2))
        cos, sin = reference.rope_tables(max(self.lengths), self.head_dim, 1e4, check.device)
        slots = check.integers(slots, torch.int64)
        positions = check.integers(positions, torch.int32)
        check.kernels.kv_write(keys, values, 0, cos, sin, positions, slots, self.keys, self.values)()
        rotated = reference.rope(keys, cos, sin, positions)
        self.rotated_keys, self.values_by_position = [], []
        for sequence, length in enumerate(self.lengths):
            own = [0] * length
            for row, (s, p) in enumerate(rows_written, start=1):
                if s == sequence:
                    own[p] = row
            rows, own_slots = check.integers(own, torch.int64), slots[own]
            cached_keys, cached_values = (
                t.transpose(1, 2).reshape(-1, heads, self.head_dim)[own_slots]
                for t in (self.keys, self.values))
            check.note("kv_write", cached_keys, rotated[rows])
            check.note("kv_write", cached_values, values[rows].double())
            self.rotated_keys.append(cached_keys)
            self.values_by_position.append(cached_values)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    device = "cpu" if arguments.cpu else "cuda"
    kernels = Kernels(arguments.library, device)
    print(f"seed {arguments.seed}")
    random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    worst = {}
    for dtype in TOLERANCE:
        check = Check(kernels, device, dtype, arguments.small)
        parts = [check.linears, check.norms, check.ropes, check.attentions]
        if dtype == DTYPE:
            parts.append(check.prefill)
        for part in parts:
            part()
            print(f"{part.__name__} {dtype}: ok", flush=True)
        worst |= check.worst
    for name, error in worst.items():
        print(f"{name:28} {error:.2e}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(worst, file)


if __name__ == "__main__":
    main()

"""Attention, RoPE and writes to the paged cache against float64."""

import random

import torch

import reference
from library import poisoned


class AttentionCheck:
    def __init__(self, check):
        self.check = check

    def run(self):
        last = 300 if self.check.small else 1500
        for head_dim in [32, 64, 128]:
            # CoLM: every chain has its own heads. Air: all chains read those of chain 1.
            for heads in [[(4, 0, 2), (2, 2, 1)], [(4, 0, 2), (2, 0, 2)]]:
                self.compare(head_dim, heads, lengths=[last, 17, 260], new=[last, 17, 1])
            self.compare(head_dim, [(2, 0, 1)] * 2, lengths=[5, last], new=[1, 3])

    def compare(self, head_dim, heads, lengths, new, block_size=32):
        """Sequences of `lengths` positions. Chain 1 computes the last `new` of them, the later chains
        the last one."""
        check = self.check
        kv_heads = max(first + count for _, first, count in heads)
        cache = Cache(check, lengths, kv_heads, head_dim, block_size)
        cache.fill()
        ranges, q = [], []
        for chain, (count, _, _) in enumerate(heads):
            computed = new if chain == 0 else [1] * len(new)
            first_row = 0
            for sequence, (length, rows) in enumerate(zip(lengths, computed)):
                ranges.append((chain, sequence, length - rows, rows, first_row))
                first_row += rows
            q.append(check.tensor(first_row, count, head_dim))
        out = [poisoned(queries.shape, queries) for queries in q]
        plan = check.kernels.attention_plan(heads, ranges, head_dim)
        scale = head_dim**-0.5
        launch = check.kernels.attention(plan, q, out, cache.keys, cache.values, cache.tables, scale)
        case = f"head_dim {head_dim}, heads {heads}, lengths {lengths}, new {new}, blocks of {block_size}"
        if not check.twice("chain_attention", case, launch, out):
            return
        for chain, sequence, first, rows, first_row in ranges:
            _, start, count = heads[chain]
            cached = (cache.rotated_keys, cache.values_by_position)
            keys, values = (tensor[sequence][:, start : start + count] for tensor in cached)
            mine = slice(first_row, first_row + rows)
            expected = reference.attention(q[chain][mine], keys, values, first, scale)
            check.note("chain_attention", out[chain][mine], expected,
                       f"{case}, chain {chain + 1}, sequence {sequence}")


class Cache:
    """Paged keys and values of random sequences, in KV blocks in random order, written by kv_write.

    `first_block` KV blocks before them stay unused.
    """

    def __init__(self, check, lengths, kv_heads, head_dim, block_size, first_block=0):
        self.check, self.lengths, self.head_dim = check, lengths, head_dim
        needed = [-(-length // block_size) for length in lengths]
        blocks = first_block + sum(needed) + 3
        free = list(range(first_block, blocks))
        random.shuffle(free)
        table = [[free.pop() for _ in range(count)] for count in needed]
        width = max(needed)
        self.block_size = block_size
        self.tables = check.integers([row + [0] * (width - len(row)) for row in table], torch.int32)
        shape = (blocks, kv_heads, block_size, head_dim)
        # NaN, so that reads of unwritten positions are detected.
        self.keys, self.values = (poisoned(shape, check.tensor(1)) for _ in range(2))

    def slots_of(self, sequence):
        positions = torch.arange(self.lengths[sequence], device=self.check.device)
        blocks = self.tables[sequence].long()[positions // self.block_size]
        return blocks * self.block_size + positions % self.block_size

    def by_slot(self, tensor, slots):
        """The rows [slots, kv_heads, head_dim] of a tensor of the cache."""
        return tensor[slots // self.block_size, :, slots % self.block_size]

    def fill(self):
        """Writes all rows in random order, with a padding row. Sets `rotated_keys` and
        `values_by_position` to what the cache then holds."""
        check, device, heads = self.check, self.check.device, self.keys.shape[1]
        own_slots = [self.slots_of(sequence) for sequence in range(len(self.lengths))]
        all_positions = torch.cat([torch.arange(length, device=device) for length in self.lengths])
        order = torch.randperm(len(all_positions), device=device)
        # Row 0 is padding.
        slots = torch.cat([check.integers([-1], torch.int64), torch.cat(own_slots)[order]])
        positions = torch.cat([check.integers([0], torch.int64), all_positions[order]]).to(torch.int32)
        keys, values = (check.tensor(len(slots), heads, self.head_dim) for _ in range(2))
        cos, sin = reference.rope_tables(max(self.lengths), self.head_dim, 1e4, device)
        check.kernels.kv_write(keys, values, 0, cos, sin, positions, slots, self.keys, self.values)()
        rotated = reference.rope(keys, cos, sin, positions)
        row_of = torch.empty_like(order)
        row_of[order] = torch.arange(1, len(slots), device=device)
        self.rotated_keys, self.values_by_position = [], []
        for sequence, rows in enumerate(row_of.split(self.lengths)):
            cached_keys, cached_values = (
                self.by_slot(tensor, own_slots[sequence]) for tensor in (self.keys, self.values))
            case = f"{self.lengths[sequence]} positions, blocks of {self.block_size}"
            check.note("kv_write", cached_keys, rotated[rows], f"keys, {case}")
            check.note("kv_write", cached_values, values[rows].double(), f"values, {case}")
            self.rotated_keys.append(cached_keys)
            self.values_by_position.append(cached_values)

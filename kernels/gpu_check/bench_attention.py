"""Times of attention: prefill against PyTorch's flash and cuDNN's attention, decoding against memory bandwidth."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench_linear import tensor
from table import NotMeasured, Row
from timing import DEVICE, copy_rate, per_launch

BLOCK_SIZE = 64
ONE_CHAIN = [(32, 0, 8)]
AIR = [(8, 0, 8)] * 4


def paged(lengths, kv_heads, head_dim, block_size=BLOCK_SIZE):
    """Random keys and values for sequences of `lengths`, in KV blocks in random order."""
    needed = [-(-length // block_size) for length in lengths]
    order = torch.randperm(sum(needed), device=DEVICE).to(torch.int32)
    tables = torch.zeros(len(lengths), max(needed), dtype=torch.int32, device=DEVICE)
    for sequence, blocks in enumerate(order.split(needed)):
        tables[sequence, : len(blocks)] = blocks
    shape = (sum(needed), kv_heads, block_size, head_dim)
    return tensor(*shape), tensor(*shape), tables


def launch(kernels, heads, lengths, computed, head_dim):
    """`computed[i]` has, per sequence, the number of last rows that chain i computes."""
    kv_heads = max(first + count for _, first, count in heads)
    keys, values, tables = paged(lengths, kv_heads, head_dim)
    ranges, q = [], []
    for chain, (count, _, _) in enumerate(heads):
        first_row = 0
        for sequence, (length, rows) in enumerate(zip(lengths, computed[chain])):
            ranges.append((chain, sequence, length - rows, rows, first_row))
            first_row += rows
        q.append(tensor(first_row, count, head_dim))
    out = [torch.empty_like(queries) for queries in q]
    plan = kernels.attention_plan(heads, ranges, head_dim)
    return kernels.attention(plan, q, out, keys, values, tables, head_dim**-0.5)


def decode_launch(kernels, heads, lengths, head_dim):
    """One new row per sequence and chain."""
    return launch(kernels, heads, lengths, [[1] * len(lengths)] * len(heads), head_dim)


def sdpa(backend, q, keys, values):
    """Causal attention by one of PyTorch's backends. cuDNN's gets the key/value heads repeated."""
    grouped = backend != SDPBackend.CUDNN_ATTENTION
    if not grouped:
        group = q.shape[1] // keys.shape[1]
        keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))

    def run():
        with sdpa_kernel(backend):
            torch.nn.functional.scaled_dot_product_attention(
                q, keys, values, is_causal=True, enable_gqa=grouped)

    return run


# Name, backend, floor, goal.
BACKENDS = [("flash SDPA", SDPBackend.FLASH_ATTENTION, 0.9, 1.3),
            ("cuDNN's SDPA", SDPBackend.CUDNN_ATTENTION, 0.5, 1.0)]


def prefill_against_sdpa(kernels, small):
    heads, kv_heads = ONE_CHAIN[0][0], ONE_CHAIN[0][2]
    for head_dim in [64, 128]:
        for length in [70] if small else [2048, 4096, 8192, 16384]:
            contenders = {"ours": launch(kernels, ONE_CHAIN, [length], [[length]], head_dim)}
            q = tensor(1, heads, length, head_dim)
            keys, values = (tensor(1, kv_heads, length, head_dim) for _ in range(2))
            missing = {}
            for name, backend, _, _ in BACKENDS:
                run = sdpa(backend, q, keys, values)
                try:
                    run()
                    contenders[name] = run
                except RuntimeError as error:
                    missing[name] = str(error).splitlines()[0]
            times = per_launch(contenders)
            flops = 2 * heads * length * length * head_dim
            for name, _, floor, goal in BACKENDS:
                what = f"chain_attention, one chain, head_dim {head_dim}, {length} tokens, to {name}"
                if name in missing:
                    yield NotMeasured(what, missing[name])
                    continue
                yield Row(what, times[name] / times["ours"], floor, goal,
                          f"{times['ours']:.3f} ms, {flops / times['ours'] / 1e9:.0f} TFLOP/s; "
                          f"{name} {times[name]:.3f} ms")


def ragged(kernels, small):
    """The prefill of Air: the later chains at the last row of every prompt only."""
    for lengths in [[70, 20]] if small else [[8192], [5000, 2100, 1092]]:
        last_rows = [1] * len(lengths)
        all_chains = launch(kernels, AIR, lengths, [lengths, last_rows, last_rows, last_rows], 64)
        first = launch(kernels, AIR[:1], lengths, [lengths], 64)
        times = per_launch({"all": all_chains, "first": first})
        yield Row(
            f"Air's prefill attention, 4 chains, {lengths} tokens, time to chain 1's alone",
            times["all"] / times["first"], 1.15, 1.05,
            f"{times['all']:.3f} ms, alone {times['first']:.3f} ms", more_is_better=False)


def decode(kernels, small):
    """Bytes of keys and values per second. Every head of the cache is counted once, although the four chains of Air
    all read it."""
    copied = copy_rate()
    sizes = [(2, 300)] if small else [(1, 131072), (8, 16384), (64, 4096)]
    for name, heads in [("one chain", ONE_CHAIN), ("Air, 4 chains", AIR)]:
        for head_dim in [64, 128]:
            for sequences, length in sizes:
                ours = decode_launch(kernels, heads, [length] * sequences, head_dim)
                time = per_launch({"ours": ours})["ours"]
                rate = 2 * 2 * sequences * length * 8 * head_dim / time * 1e3
                yield Row(
                    f"decode attention, {name}, head_dim {head_dim}, {sequences} x {length} positions, "
                    "key and value bytes/s to a copy's", rate / copied, 0.6, 0.85,
                    f"{rate / 1e12:.2f} TB/s, {time * 1e3:.1f} us; copy {copied / 1e12:.2f} TB/s")
                del ours

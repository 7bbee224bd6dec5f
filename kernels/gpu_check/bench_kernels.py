"""Times of single kernels against PyTorch and against memory bandwidth."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from library import LINEAR_LAUNCHERS, Matrix, Rows
from table import Row
from timing import captured, medians, per_launch, sets_beyond_cache

DTYPE = torch.bfloat16
BLOCK_SIZE = 64
DECODE = "colm_chain_linear_decode"


def tensor(*shape):
    return torch.randn(shape, device="cuda").to(DTYPE)


def paged(lengths, kv_heads, head_dim):
    """Random keys and values for sequences of `lengths`, in KV blocks in random order."""
    needed = [-(-length // BLOCK_SIZE) for length in lengths]
    order = torch.randperm(sum(needed), device="cuda").to(torch.int32)
    tables = torch.zeros(len(lengths), max(needed), dtype=torch.int32, device="cuda")
    for sequence, blocks in enumerate(order.split(needed)):
        tables[sequence, : len(blocks)] = blocks
    shape = (sum(needed), kv_heads, BLOCK_SIZE, head_dim)
    return tensor(*shape), tensor(*shape), tables


def attention_launch(kernels, heads, lengths, computed, head_dim):
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


def attention_against_sdpa(kernels):
    heads, kv_heads = 32, 8
    for head_dim in [64, 128]:
        for length in [2048, 4096, 8192, 16384]:
            ours = attention_launch(kernels, [(heads, 0, kv_heads)], [length], [[length]], head_dim)
            q = tensor(1, heads, length, head_dim)
            keys, values = (tensor(1, kv_heads, length, head_dim) for _ in range(2))

            def sdpa():
                with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                    torch.nn.functional.scaled_dot_product_attention(
                        q, keys, values, is_causal=True, enable_gqa=True)

            times = per_launch({"ours": ours, "sdpa": sdpa})
            flops = 2 * heads * length * length * head_dim
            yield Row(
                f"chain_attention, one chain, head_dim {head_dim}, {length} tokens, to flash SDPA",
                times["sdpa"] / times["ours"], 0.9, 1.3,
                f"{times['ours']:.3f} ms, {flops / times['ours'] / 1e9:.0f} TFLOP/s; "
                f"SDPA {times['sdpa']:.3f} ms")


def ragged_attention(kernels):
    heads = [(8, 0, 8)] * 4
    for lengths in [[8192], [5000, 2100, 1092]]:
        last_rows = [1] * len(lengths)
        all_chains = attention_launch(kernels, heads, lengths, [lengths, last_rows, last_rows, last_rows], 64)
        first = attention_launch(kernels, heads[:1], lengths, [lengths], 64)
        times = per_launch({"all": all_chains, "first": first})
        yield Row(
            f"Air's prefill attention, 4 chains, {lengths} tokens, time to chain 1's alone",
            times["all"] / times["first"], 1.15, 1.05,
            f"{times['all']:.3f} ms, alone {times['first']:.3f} ms", more_is_better=False)


def square_layer(width, chains, count):
    """x and a layer [width, width] of equal chains, all of `count` rows."""
    part = width // chains
    x = [tensor(count, part) for _ in range(chains)]
    return x, [Matrix(tensor(part, part * (chain + 1)) * width**-0.5) for chain in range(chains)]


def linear_against_cublas(kernels):
    tokens, chains = 4096, 4
    used = (chains + 1) / (2 * chains)
    for width in [2048, 4096, 8192]:
        x, layer = square_layer(width, chains, tokens)
        one, one_layer = square_layer(width, 1, tokens)
        wide, weight = tensor(tokens, width), tensor(width, width) * width**-0.5
        out = torch.empty(tokens, width, dtype=DTYPE, device="cuda")
        contenders = {"dense": lambda: torch.mm(wide, weight.T, out=out)}
        for launcher in LINEAR_LAUNCHERS:
            ours = kernels.linear(x, Rows.same(chains, tokens), [layer], launcher)
            alone = kernels.linear(one, Rows.same(1, tokens), [one_layer], launcher)
            contenders |= {launcher: ours, f"{launcher} alone": alone}
        times = per_launch(contenders)
        flops = 2 * tokens * width * width
        rate = lambda name, share=1: share * flops / times[name] / 1e9
        for launcher in LINEAR_LAUNCHERS:
            useful = rate(launcher, used)
            yield Row(
                f"{launcher.removeprefix('colm_')}, [8, 8, 8, 8], width {width}, {tokens} tokens, "
                "useful FLOP/s to cuBLAS", useful / rate("dense"), 0.7, 0.9,
                f"{useful:.0f} TFLOP/s; one chain {rate(f'{launcher} alone'):.0f}; "
                f"cuBLAS {rate('dense'):.0f}")


def copy_rate():
    """The bytes per second that a copy reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / medians({"copy": lambda: target.copy_(source)})["copy"] * 1e3


def decode_against_copy(kernels):
    chains, copied = 4, copy_rate()
    for width in [2048, 4096, 8192]:
        for count in [1, 8]:
            weight_bytes = 2 * width * width * (chains + 1) // (2 * chains)
            launches = []
            for _ in range(sets_beyond_cache(weight_bytes)):
                x, layer = square_layer(width, chains, count)
                launches.append(kernels.linear(x, Rows.same(chains, count), [layer], DECODE))
            time = medians({"ours": captured(launches)})["ours"] / len(launches)
            rate = weight_bytes / time * 1e3
            yield Row(
                f"decode, [8, 8, 8, 8], width {width}, {count} rows, weight bytes/s to a copy's",
                rate / copied, 0.75, 0.9,
                f"{rate / 1e12:.2f} TB/s, {time * 1e3:.1f} us; copy {copied / 1e12:.2f} TB/s")


def rows(kernels):
    for bench in [attention_against_sdpa, ragged_attention, linear_against_cublas, decode_against_copy]:
        yield from bench(kernels)
        torch.cuda.empty_cache()

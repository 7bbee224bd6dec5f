"""Times of the linear layers against cuBLAS and against memory bandwidth."""

import torch

from library import LINEAR_LAUNCHERS, Matrix, Rows
from table import Row
from timing import DEVICE, captured, copy_rate, medians, per_launch, sets_beyond_cache

DTYPE = torch.bfloat16
DECODE = "colm_chain_linear_decode"
CHAINS = 4

# Floor and goal of the weight bytes per second of decoding, as parts of a copy's. A layer of width 2048 is read in
# about 2 microseconds, as long as a launch takes to reach all of the GPU.
DECODE_BOUNDS = {2048: (0.4, 0.5), 4096: (0.6, 0.75), 8192: (0.75, 0.9)}


def tensor(*shape):
    return torch.randn(shape, device=DEVICE).to(DTYPE)


def square_layer(width, chains, count):
    """x and a layer [width, width] of equal chains, all of `count` rows."""
    part = width // chains
    x = [tensor(count, part) for _ in range(chains)]
    return x, [Matrix(tensor(part, part * (chain + 1)) * width**-0.5) for chain in range(chains)]


def dense_layer(width, tokens):
    """cuBLAS on a layer [width, width]."""
    x, weight = tensor(tokens, width), tensor(width, width) * width**-0.5
    out = torch.empty(tokens, width, dtype=DTYPE, device=DEVICE)
    return lambda: torch.mm(x, weight.T, out=out)


def prefill_layer(kernels, width, chains, tokens, launcher):
    """The launch of one layer of a prompt."""
    x, layer = square_layer(width, chains, tokens)
    return kernels.linear(x, Rows.same(chains, tokens), [layer], launcher)


def decode_layers(kernels, width, count):
    """Launches of as many equal layers as exceed the L2 cache, and the bytes of the weights of one."""
    weight_bytes = 2 * width * width * (CHAINS + 1) // (2 * CHAINS)
    launches = []
    for _ in range(sets_beyond_cache(weight_bytes)):
        x, layer = square_layer(width, CHAINS, count)
        launches.append(kernels.linear(x, Rows.same(CHAINS, count), [layer], DECODE))
    return launches, weight_bytes


def linear_against_cublas(kernels, small):
    tokens = 40 if small else 4096
    used = (CHAINS + 1) / (2 * CHAINS)
    for width in [64] if small else [2048, 4096, 8192]:
        contenders = {"dense": dense_layer(width, tokens)}
        for launcher in LINEAR_LAUNCHERS:
            contenders[launcher] = prefill_layer(kernels, width, CHAINS, tokens, launcher)
            contenders[f"{launcher} alone"] = prefill_layer(kernels, width, 1, tokens, launcher)
        times = per_launch(contenders)
        rates = {name: 2 * tokens * width * width / time / 1e9 for name, time in times.items()}
        for launcher in LINEAR_LAUNCHERS:
            useful = used * rates[launcher]
            yield Row(
                f"{launcher.removeprefix('colm_')}, [8, 8, 8, 8], width {width}, {tokens} tokens, "
                "useful FLOP/s to cuBLAS", useful / rates["dense"], 0.7, 0.9,
                f"{useful:.0f} TFLOP/s; one chain {rates[f'{launcher} alone']:.0f}; cuBLAS {rates['dense']:.0f}")


def decode_against_copy(kernels, small):
    copied = copy_rate()
    for width in [64] if small else [2048, 4096, 8192]:
        for count in [1, 8]:
            launches, weight_bytes = decode_layers(kernels, width, count)
            time = medians({"ours": captured(launches)})["ours"] / len(launches)
            rate = weight_bytes / time * 1e3
            yield Row(
                f"decode, [8, 8, 8, 8], width {width}, {count} rows, weight bytes/s to a copy's",
                rate / copied, *DECODE_BOUNDS.get(width, (0, 1)),
                f"{rate / 1e12:.2f} TB/s, {time * 1e3:.1f} us; copy {copied / 1e12:.2f} TB/s")

"""A whole prefill in the shape of Llama-3.2-1B: CoLM-Air and one chain on these kernels, and the dense model in
PyTorch."""

from chain_model import SMALL, ChainModel, Shape
from dense_model import DenseModel
from library import LINEAR_LAUNCHERS
from table import Row
from timing import captured, medians


def flops(shape, chains, tokens):
    """The FLOPs of chain 1 at all tokens; the rest is about a thousandth of that."""
    hidden, intermediate = shape.hidden // chains, shape.intermediate // chains
    kv = shape.kv_heads * shape.head_dim
    weights = hidden * (2 * hidden + 2 * kv + 3 * intermediate)
    attention = 2 * tokens * tokens * shape.head_dim * shape.heads // chains
    return shape.layers * (2 * tokens * weights + attention)


def air_prefill(kernels, small):
    shape, tokens = (SMALL, 70) if small else (Shape(), 8192)
    fewer = flops(shape, 1, tokens) / flops(shape, 4, tokens)
    dense = captured([DenseModel(shape, tokens).run])
    for launcher in LINEAR_LAUNCHERS:
        air, one = (ChainModel(kernels, shape, chains, launcher, tokens) for chains in (4, 1))
        times = medians({"air": captured([air.run]), "one": captured([one.run]), "dense": dense})
        for logits in (air.logits, one.logits):
            assert logits.isfinite().all(), "the logits of a prefill are not finite"
        detail = (f"Air {times['air']:.2f} ms, one chain {times['one']:.2f} ms, "
                  f"PyTorch {times['dense']:.2f} ms; {fewer:.2f} times fewer FLOPs")
        what = (f"prefill of {tokens} tokens, Llama-3.2-1B's shape, Air [8, 8, 8, 8] by "
                f"{launcher.removeprefix('colm_')}")
        goal = round(fewer, 2)
        yield Row(f"{what}, to one chain on the same kernels", times["one"] / times["air"],
                  round(0.75 * goal, 2), goal, detail)
        yield Row(f"{what}, to PyTorch's dense Llama", times["dense"] / times["air"],
                  round(0.75 * goal, 2), goal, detail)

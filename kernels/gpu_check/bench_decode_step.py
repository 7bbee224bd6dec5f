"""A whole decode step in the shape of Llama-3.2-1B: all four chains of CoLM-Air at one row per sequence, one chain,
and the dense model in PyTorch, each as one CUDA graph."""

from chain_model import SMALL, ChainModel, Shape
from dense_model import DenseModel
from table import Row
from timing import captured, copy_rate, medians

LAUNCHER = "colm_chain_linear"


def decode_steps(kernels, small):
    copied = copy_rate()
    shape = SMALL if small else Shape()
    for sequences, cached in [(2, 100)] if small else [(1, 1024), (8, 8192), (32, 4096)]:
        models = {name: ChainModel(kernels, shape, chains, LAUNCHER, 1, cached, sequences)
                  for name, chains in [("air", 4), ("one", 1)]}
        models["dense"] = DenseModel(shape, 1, cached, sequences)
        times = medians({name: captured([model.run]) for name, model in models.items()})
        for name in ("air", "one"):
            assert models[name].logits.isfinite().all(), "the logits of a decode step are not finite"
        bytes_read = {name: models[name].bytes_read() for name in ("air", "one")}
        what = f"decode step, {sequences} sequences after {cached} tokens, Llama-3.2-1B's shape"
        detail = (f"Air {times['air']:.3f} ms, one chain {times['one']:.3f} ms, PyTorch {times['dense']:.3f} ms; "
                  f"copy {copied / 1e12:.2f} TB/s")
        for name, title in [("air", "Air [8, 8, 8, 8]"), ("one", "one chain")]:
            rate = bytes_read[name] / times[name] * 1e3
            yield Row(f"{what}, {title}, bytes/s to a copy's", rate / copied, 0.5, 0.75, detail)
        fewer = round(bytes_read["one"] / bytes_read["air"], 2)
        yield Row(f"{what}, Air to one chain on the same kernels", times["one"] / times["air"],
                  round(0.75 * fewer, 2), fewer, detail)
        yield Row(f"{what}, Air to PyTorch's dense Llama", times["dense"] / times["air"],
                  round(0.75 * fewer, 2), fewer, detail)
        del models

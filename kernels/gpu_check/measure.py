"""Times everything and writes the table, a row when it is measured.

    measure.py LIBRARY OUT.md [--small] [--seconds N] [--only WORD]

A benchmark that fails is a row with the reason, and the next one runs. After N seconds no further benchmark
starts. `--small` is for the twin. `--only` runs the benchmarks whose names contain WORD.
"""

import argparse
import time

import torch

import bench_attention
import bench_decode_step
import bench_linear
import bench_prefill
import machine
from library import Kernels
from table import NotMeasured, Table, title
from timing import DEVICE, ON_GPU

BENCHMARKS = [
    bench_prefill.air_prefill,
    bench_linear.linear_against_cublas,
    bench_linear.decode_against_copy,
    bench_attention.prefill_against_sdpa,
    bench_attention.ragged,
    bench_attention.decode,
    bench_decode_step.decode_steps,
]


def run(benchmark, kernels, small):
    """The rows of a benchmark. An error ends it and becomes the last row."""
    try:
        yield from benchmark(kernels, small)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200].replace("|", "/")
        yield NotMeasured(benchmark.__name__, reason)
    if ON_GPU:
        torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("out")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    torch.manual_seed(0)
    kernels = Kernels(arguments.library, DEVICE)
    table = Table(arguments.out, [title(machine.name()), "", machine.software()])
    for benchmark in BENCHMARKS:
        if arguments.only not in benchmark.__name__:
            continue
        if time.monotonic() > end:
            table.add(NotMeasured(benchmark.__name__, f"no time left of {arguments.seconds:.0f} s"))
            continue
        with torch.no_grad():
            for row in run(benchmark, kernels, arguments.small):
                table.add(row)


if __name__ == "__main__":
    main()

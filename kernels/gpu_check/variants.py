"""Libraries, and the launchers of linear layers, against each other.

    variants.py OUT.jsonl base=LIBRARY [NAME=LIBRARY]... [--small] [--seconds N]

All contenders of a workload alternate in one process; the base runs twice under two names. Every contender is measured
several times. A variant counts as faster only if its slowest time is below the fastest of the base.
"""

import argparse
import time
from functools import partial

import torch

import bench_attention
import bench_linear
from library import LINEAR_LAUNCHERS, Kernels
from table import append
from timing import DEVICE, captured, medians

REPEATS = 4
# Milliseconds per repeat.
BUDGET = 80


def together(launches):
    """The launches as one graph, and their number."""
    return captured(launches), len(launches)


def workloads(small):
    """Names, and functions that make a graph from the kernels of a library and a linear launcher."""
    widths, tokens = ([64], 40) if small else ([2048, 4096, 8192], 4096)
    for width in widths:
        yield f"linear, width {width}, {tokens} tokens", partial(linear, width, tokens)
        for count in [1, 8]:
            yield f"decode linear, width {width}, {count} rows", partial(decode_linear, width, count)
    length = 70 if small else 8192
    lengths = [300] * 2 if small else [16384] * 8
    for head_dim in [64, 128]:
        yield f"prefill attention, head_dim {head_dim}, {length} tokens", partial(prefill, head_dim, length)
        yield f"decode attention, Air, head_dim {head_dim}, {lengths}", partial(decode, head_dim, lengths)


def linear(width, tokens, kernels, launcher):
    return together([bench_linear.prefill_layer(kernels, width, bench_linear.CHAINS, tokens, launcher)])


def decode_linear(width, count, kernels, _):
    return together(bench_linear.decode_layers(kernels, width, count)[0])


def prefill(head_dim, length, kernels, _):
    return together([bench_attention.launch(kernels, bench_attention.ONE_CHAIN, [length], [[length]], head_dim)])


def decode(head_dim, lengths, kernels, _):
    return together([bench_attention.decode_launch(kernels, bench_attention.AIR, lengths, head_dim)])


def contenders(libraries, workload):
    """The graphs of a workload by name. Launchers differ only where many rows are multiplied."""
    launchers = LINEAR_LAUNCHERS if workload[0].startswith("linear") else LINEAR_LAUNCHERS[:1]
    graphs, failed = {}, {}
    for name, kernels in libraries.items():
        for launcher in launchers:
            title = name if launcher == launchers[0] else f"{name}, {launcher.removeprefix('colm_')}"
            try:
                graphs[title], count = workload[1](kernels, launcher)
                if title == "base":
                    graphs["base again"], _ = workload[1](kernels, launcher)
            except RuntimeError as error:
                failed[title] = str(error).splitlines()[0]
    return graphs, count, failed


def verdict(times, base):
    if max(times) < min(base):
        return "faster"
    return "slower" if min(times) > max(base) else "no difference"


def compare(out, libraries, workload, repeats):
    graphs, count, failed = contenders(libraries, workload)
    times = {name: [] for name in graphs}
    for _ in range(repeats):
        for name, milliseconds in medians(graphs, BUDGET).items():
            times[name].append(milliseconds / count * 1e3)
    base = times["base"] + times["base again"]
    for name, own in times.items():
        record = {"workload": workload[0], "contender": name, "microseconds": own,
                  "to_base": sum(base) / len(base) / (sum(own) / len(own)),
                  "verdict": "" if name.startswith("base again") or name == "base" else verdict(own, base)}
        append(out, record)
        print(f"{workload[0]}: {name} {min(own):.2f} to {max(own):.2f} us {record['verdict']}", flush=True)
    for name, reason in failed.items():
        append(out, {"workload": workload[0], "contender": name, "failed": reason})
        print(f"{workload[0]}: {name} failed: {reason}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("libraries", nargs="+", metavar="NAME=LIBRARY")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    torch.manual_seed(0)
    paths = dict(library.split("=", 1) for library in arguments.libraries)
    if "base" not in paths:
        raise SystemExit("no library is called base")
    libraries = {}
    for name, path in paths.items():
        try:
            libraries[name] = Kernels(path, DEVICE)
        except (OSError, SystemExit) as error:
            append(arguments.out, {"contender": name, "failed": str(error)})
            print(f"{name} cannot be used: {error}", flush=True)
    if "base" not in libraries:
        raise SystemExit(1)
    for workload in workloads(arguments.small):
        if time.monotonic() > end:
            append(arguments.out, {"workload": workload[0], "failed": "no time left"})
            continue
        with torch.no_grad():
            compare(arguments.out, libraries, workload, 2 if arguments.small else REPEATS)


if __name__ == "__main__":
    main()

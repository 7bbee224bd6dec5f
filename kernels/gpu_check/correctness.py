"""Compares every kernel with the formulas in float64, on random inputs.

    correctness.py LIBRARY [--part NAME]... [--small] [--cpu] [--seed N] [--keep-going] [--rows FILE] [--json FILE]

Without `--part` all parts run. `--small` is for the sanitizers and for the twin, the CPU emulator, which also needs
`--cpu`. Every launch is made twice and must give the same bits. Prints the largest relative error per kernel and
dtype. Exits 1 if one is too large: at the first one, or at the end with `--keep-going`. `--rows` appends every error
to a file as it is found.
"""

import argparse
import json
import random

import torch

import reference
from chain_model import DTYPE, SMALL, ChainModel
from check import TOLERANCE, Check, Results
from check_attention import AttentionCheck
from check_linear import DECODE, LinearCheck
from library import LINEAR_LAUNCHERS, Kernels, poisoned

EPS = 1e-5


def norms(check):
    shapes = [(70, 64), (5, 2048), (0, 16)] if check.small else [(3000, 512), (700, 2048), (9, 8192)]
    x = [check.tensor(*shape) for shape in shapes]
    weights = [check.tensor(shape[1]) for shape in shapes]
    y = [poisoned(shape, x[0]) for shape in shapes]
    if check.twice("chain_rms_norm", str(shapes), check.kernels.norm(x, weights, EPS, y), y):
        for found, *inputs in zip(y, x, weights):
            check.note("chain_rms_norm", found, reference.rms_norm(*inputs, EPS), str(list(found.shape)))


def ropes(check):
    rows, heads, head_dim = 50, 3, 64
    cos, sin = reference.rope_tables(1000, head_dim, 5e5, check.device)
    positions = check.integers([random.randrange(1000) for _ in range(rows)], torch.int32)
    x = check.tensor(rows, heads, head_dim)
    out = poisoned(x.shape, x)
    if check.twice("rope", "", check.kernels.rope(x, out, cos, sin, positions), [out]):
        check.note("rope", out, reference.rope(x, cos, sin, positions))


def models(check):
    """The models that bench_prefill.py and bench_decode_step.py time, in a small shape."""
    if check.dtype != DTYPE:
        return
    for launcher in LINEAR_LAUNCHERS:
        for chains in [4, 1]:
            for name, step in [("prefill", {"new": 70}), ("decode step", {"new": 1, "cached": 90, "sequences": 3})]:
                model = ChainModel(check.kernels, SMALL, chains, launcher, **step)
                model.run()
                # Two layers of rounding to bf16.
                check.note(name, model.logits, model.expected(), f"{chains} chains, {launcher}",
                           allowed=4 * TOLERANCE[DTYPE])


PARTS = {
    **{launcher.removeprefix("colm_"): lambda check, launcher=launcher: LinearCheck(check, launcher).run()
       for launcher in [*LINEAR_LAUNCHERS, DECODE]},
    "norms": norms,
    "ropes": ropes,
    "attention": lambda check: AttentionCheck(check).run(),
    "models": models,
}


def run_part(name, check, keep_going):
    try:
        PARTS[name](check)
    except RuntimeError as error:
        if not keep_going:
            raise
        check.results.broken(name, check.dtype_name, "", str(error).splitlines()[0])
    print(f"{name} {check.dtype_name}: done", flush=True)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--rows")
    parser.add_argument("--json")
    return parser.parse_args()


def main():
    arguments = parsed()
    kernels = Kernels(arguments.library, "cpu" if arguments.cpu else "cuda")
    print(f"seed {arguments.seed}")
    random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    results = Results(arguments.keep_going, arguments.rows)
    for dtype in TOLERANCE:
        check = Check(kernels, dtype, arguments.small, results)
        for name in arguments.part or PARTS:
            run_part(name, check, arguments.keep_going)
    for name, error in results.worst.items():
        print(f"{name:28} {error:.2e}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results.worst, file)
    if results.failures:
        raise SystemExit(f"{len(results.failures)} wrong results")


if __name__ == "__main__":
    main()

"""Nsight Compute on single kernels, one run per kernel, so that a time-out keeps those before.

    ncu_kernels.py LIBRARY OUT.txt KERNEL...     profiles each kernel
    ncu_kernels.py LIBRARY --launch KERNEL       launches what contains the kernel, twice
"""

import subprocess
import sys

import torch

import bench_attention
import bench_linear
from library import Kernels
from timing import DEVICE

WIDTH, TOKENS = 4096, 4096


def norm(kernels):
    x = [bench_linear.tensor(TOKENS, WIDTH)]
    return kernels.norm(x, [bench_linear.tensor(WIDTH)], 1e-5, [torch.empty_like(x[0])])


def linear(launcher, count):
    return lambda kernels: bench_linear.prefill_layer(kernels, WIDTH, bench_linear.CHAINS, count, launcher)


LAUNCHES = {
    "chain_linear": linear("colm_chain_linear", TOKENS),
    "chain_linear_wgmma": linear("colm_chain_linear_wgmma", TOKENS),
    "chain_linear_decode": linear("colm_chain_linear_decode", 1),
    "prefill_attention": lambda kernels: bench_attention.launch(
        kernels, bench_attention.ONE_CHAIN, [8192], [[8192]], 128),
    "decode_attention": lambda kernels: bench_attention.decode_launch(
        kernels, bench_attention.AIR, [16384] * 8, 128),
    "chain_rms_norm": norm,
}


def profile(library, out, kernel):
    """Appends the details of the second launch, after the first has warmed up."""
    command = ["ncu", "--clock-control", "none", "--set", "full", "--kernel-name-base", "function",
               "--kernel-name", f"regex:^{kernel}$", "--launch-skip", "1", "--launch-count", "1",
               sys.executable, __file__, library, "--launch", kernel]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                            check=False)
    with open(out, "a") as file:
        file.write(f"=== {kernel}: exit status {result.returncode}\n{result.stdout}\n")
    print(f"{kernel}: exit status {result.returncode}, {len(result.stdout)} characters", flush=True)
    return result.returncode == 0


def main():
    library, *arguments = sys.argv[1:]
    if arguments[0] == "--launch":
        launch = LAUNCHES[arguments[1]](Kernels(library, DEVICE))
        for _ in range(2):
            launch()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return
    out, *kernels = arguments
    profiled = [profile(library, out, kernel) for kernel in kernels]
    raise SystemExit(0 if all(profiled) else 1)


if __name__ == "__main__":
    main()

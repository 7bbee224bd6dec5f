"""Times everything and writes the table.

    measure.py LIBRARY ERRORS.json SANITIZERS OUT.md

ERRORS.json is the output of correctness.py --json, SANITIZERS a line with the result of the sanitizers.
"""

import json
import sys

import torch

import bench_kernels
import prefill
import table
from library import Kernels


def software():
    driver = table.first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, driver {driver}. bf16."


def main():
    library, errors, sanitizers, out = sys.argv[1:]
    torch.manual_seed(0)
    kernels = Kernels(library, "cuda")
    rows = []
    for bench in (bench_kernels.rows, prefill.rows):
        for row in bench(kernels):
            print(row.markdown(), flush=True)
            rows.append(row)
    with open(errors) as file:
        errors = json.load(file)
    text = table.markdown(torch.cuda.get_device_name(), software(), rows, errors, sanitizers)
    with open(out, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()

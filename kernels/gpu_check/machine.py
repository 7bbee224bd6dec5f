"""Describes the machine, and measures what the other figures are divided by: a copy and a matrix product.

    machine.py OUT.json

Writes what is known so far after every measurement.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import torch

from table import first_line
from timing import DEVICE, ON_GPU, copy_rate, per_launch

TOOLS = ["nvcc", "ncu", "compute-sanitizer", "cuobjdump"]


def name():
    return torch.cuda.get_device_name() if ON_GPU else "the twin (no GPU: times mean nothing)"


def software():
    driver = nvidia_smi("driver_version") or "none"
    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, driver {driver}. bf16."


def nvidia_smi(fields):
    return first_line("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")


def description():
    facts = {
        "device": name(), "software": software(), "system": platform.platform(),
        "python": platform.python_version(), "tools": {tool: shutil.which(tool) for tool in TOOLS},
    }
    if ON_GPU:
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": properties.L2_cache_size,
            "nvidia_smi": nvidia_smi("name,pstate,clocks.sm,clocks.mem,power.limit,temperature.gpu"),
        }
    return facts


def product_rate():
    """FLOP/s of a bf16 product of random matrices of 8192 x 8192."""
    width = 8192 if ON_GPU else 256
    a, b = (torch.randn(width, width, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * width**3 / per_launch({"product": lambda: torch.mm(a, b, out=out)})["product"] * 1e3


def main():
    out = Path(sys.argv[1])
    facts = description()
    write = lambda: out.write_text(json.dumps(facts, indent=1) + "\n")
    write()
    facts["copy_bytes_per_second"] = copy_rate()
    write()
    facts["product_flops"] = product_rate()
    if ON_GPU:
        facts["nvidia_smi_after"] = nvidia_smi("pstate,clocks.sm,clocks.mem,temperature.gpu")
    write()
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()

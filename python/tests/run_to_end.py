"""A program for `torchrun`: runs the script in its first argument and checks that it ends its process group.

A process that leaves its group open sometimes aborts at exit, so the exit code alone is not a reliable check.
"""

import runpy
import sys

import torch.distributed as dist

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert not dist.is_initialized(), f"{sys.argv[0]} leaves its process group open"

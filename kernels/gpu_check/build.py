"""Builds the kernels as a shared library: for the GPU of this machine, or on the twin, the CPU emulator."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parent / "cuda"
TWIN = HERE.parent / "twin" / "cpp"


def sources():
    return sorted(KERNELS.glob("*.cu")) + [HERE / "sizes.cu"]


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{result.stdout}{result.stderr}")


def nvcc():
    home = os.environ.get("CUDA_HOME")
    found = Path(home) / "bin" / "nvcc" if home else shutil.which("nvcc")
    if not found or not Path(found).exists():
        raise SystemExit("no nvcc: put it on the PATH or set CUDA_HOME")
    return found


def build_for_gpu(capability, folder):
    """`capability` as in "8.0". Returns the library's path."""
    target = capability.replace(".", "")
    if target == "90":
        target = "90a"  # with wgmma
    library = Path(folder) / f"libcolm_kernels.sm_{target}.so"
    run([nvcc(), "-std=c++17", "-O3", "-lineinfo", "-Werror", "all-warnings", "--threads", "0",
         "-gencode", f"arch=compute_{target},code=sm_{target}", "-shared", "-Xcompiler", "-fPIC",
         "-I", KERNELS, *sources(), "-o", library])
    return library


def build_twin(folder):
    """The same sources as plain C++ on the CPU emulator, to test these scripts without a GPU."""
    library = Path(folder) / "libcolm_kernels.twin.so"
    run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE",
         "-I", TWIN, "-I", KERNELS, "-xc++", *sources(), *sorted(TWIN.glob("*.cpp")), "-o", library])
    return library

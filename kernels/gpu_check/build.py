"""Builds the kernels as a shared library: for a GPU, or on the twin, the CPU emulator."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parent / "cuda"
TWIN = HERE.parent / "twin" / "cpp"
# Where kernels/cuda/check installs its compiler.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "colm"


def sources(kernels):
    return sorted(kernels.glob("*.cu")) + [HERE / "sizes.cu"]


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{result.stdout}{result.stderr}")


def nvcc():
    home = os.environ.get("CUDA_HOME")
    on_path = [Path(found)] if (found := shutil.which("nvcc")) else []
    candidates = [Path(home) / "bin" / "nvcc"] if home else on_path + sorted(CACHE.glob("cuda-*/bin/nvcc"))
    for found in candidates:
        if found.exists():
            return found
    raise SystemExit("no nvcc: put it on the PATH, set CUDA_HOME, or run kernels/cuda/check, which installs it")


def build_for_gpu(capability, folder, kernels=KERNELS):
    """`capability` as in "8.0". Returns the library's path."""
    target = capability.replace(".", "")
    if target == "90":
        target = "90a"  # with wgmma
    library = Path(folder) / f"libcolm_kernels.sm_{target}.so"
    compiler = nvcc()
    run([compiler, "-std=c++17", "-O3", "-lineinfo", "-Werror", "all-warnings", "--threads", "0",
         "-gencode", f"arch=compute_{target},code=sm_{target}", "-shared", "-Xcompiler", "-fPIC",
         "-I", kernels, "-L", compiler.parent.parent / "lib", *sources(kernels), "-o", library])
    return library


def build_twin(folder, kernels=KERNELS):
    """The same sources as plain C++ on the CPU emulator, to test these scripts without a GPU."""
    library = Path(folder) / "libcolm_kernels.twin.so"
    run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-fno-strict-aliasing",
         "-U_FORTIFY_SOURCE", "-I", TWIN, "-I", kernels, "-xc++", *sources(kernels), *sorted(TWIN.glob("*.cpp")),
         "-o", library])
    return library

"""The steps of both parts of `day`: commands, times, and what each needs."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import prebuilt
from session import Step

HERE = Path(__file__).resolve().parent
# As correctness.py has them, which cannot be imported without PyTorch.
CHECKS = ["chain_linear", "chain_linear_wgmma", "chain_linear_decode", "norms", "ropes", "attention", "models"]
# Kernels that Nsight Compute looks at, one at a time.
PROFILED = ["chain_linear", "chain_linear_wgmma", "chain_linear_decode", "prefill_attention", "decode_attention",
            "chain_rms_norm"]


@dataclass
class Needs:
    """What there is on this machine. `files` are the unpacked ones by name."""

    twin: bool
    torch: str
    gpu: str
    capability: str
    files: dict
    folder: Path
    out: Path

    def missing(self, library=True, gpu=False, tools=()):
        """The reasons why a step cannot run. `gpu` steps do not run on the twin."""
        reasons = [] if self.torch else [f"no PyTorch in {sys.executable}"]
        if self.torch and not self.gpu and (gpu or not self.twin):
            reasons.append("no GPU that PyTorch can use")
        if self.gpu and not self.twin and self.capability != "9.0":
            reasons.append(f"compute capability {self.capability}, but the files are built for 9.0")
        if library and not self.library:
            reasons.append("the twin could not be built" if self.twin else "no libcolm_kernels (`pack kernels`)")
        return reasons + [f"no {tool} on the PATH" for tool in tools if shutil.which(tool) is None]

    def missing_executable(self, name, command):
        """The reasons why a step of an executable cannot run. `command` is the argument of `pack` that builds it."""
        reasons = self.missing(library=False)
        if name not in self.files:
            reasons.append(f"no {name} (`pack {'--twin ' * self.twin}{command}`)")
        return reasons + missing_libraries(self.files.get(name))

    @property
    def library(self):
        return self.files.get("libcolm_kernels.base.so")

    def program(self, script, *arguments):
        """A command that runs one of these scripts; on the twin with its sizes."""
        return [sys.executable, HERE / script, *arguments, *(["--small"] if self.twin else [])]

    def check(self, script, *arguments):
        return self.program(script, self.library, "--rows", self.out / "checks.jsonl", *arguments,
                            *(["--cpu"] if self.twin else []))


def library_path():
    """LD_LIBRARY_PATH for the executables: CUDA's libraries as PyTorch's packages have them, or a toolkit's."""
    folders = [folder for entry in sys.path for folder in sorted(Path(entry).glob("nvidia/*/lib"))]
    if nvcc := shutil.which("nvcc"):
        folders += [Path(nvcc).resolve().parent.parent / name for name in ("lib64", "lib")]
    folders += [Path("/usr/local/cuda/lib64"), Path("/usr/local/nvidia/lib64")]
    existing = [str(folder) for folder in folders if folder.exists()]
    return {"LD_LIBRARY_PATH": ":".join([*existing, os.environ.get("LD_LIBRARY_PATH", "")])}


def missing_libraries(executable):
    """The reasons why an executable cannot start: shared libraries that are not found."""
    if executable is None or shutil.which("ldd") is None:
        return []
    listed = subprocess.run(["ldd", executable], env=os.environ | library_path(), capture_output=True, text=True,
                            check=False).stdout
    return [f"no {line.split()[0]}" for line in listed.splitlines() if "not found" in line]


def first(needs):
    packed_tests = [("candle_tests", "candle", 30), ("engine_tests", "engine", 60)]
    yield Step("machine, copy and product", 30, [[sys.executable, HERE / "machine.py", needs.out / "machine.json"]],
               needs.missing(library=False))
    yield Step("every kernel against float64", 60,
               [needs.check("correctness.py", "--keep-going", "--part", part) for part in CHECKS], needs.missing())
    yield Step("large tensors, block sizes, long sequences", 40, [needs.check("large.py")], needs.missing())
    for name, command, seconds in packed_tests[:1]:
        yield test_step(needs, name, command, seconds)
    yield Step("the table", 120, [needs.program("measure.py", needs.library, needs.out / "results.md",
                                                "--seconds", "105")], needs.missing())
    for name, command, seconds in packed_tests[1:]:
        yield test_step(needs, name, command, seconds)


def test_step(needs, name, command, seconds):
    """The tests of a prebuilt binary. They use the repository's files, so they run in it."""
    return Step(f"the tests of {name}", seconds, [[needs.files.get(name)]], needs.missing_executable(name, command),
                library_path(), prebuilt.REPOSITORY)


def second(needs):
    libraries = {name.split(".")[1]: path for name, path in needs.files.items()
                 if name.startswith("libcolm_kernels.") and path}
    others = [f"{name}={path}" for name, path in libraries.items() if name != "base"]
    yield Step("libraries and launchers against each other", 60,
               [needs.program("variants.py", needs.out / "variants.jsonl", f"base={needs.library}", *others,
                              "--seconds", "50")], needs.missing())
    yield Step("generation by the engine", 60,
               [needs.program("generation.py", needs.files.get("colm"), needs.folder / "model",
                              needs.out / "generation.jsonl")],
               needs.missing_executable("colm", "program"), library_path())
    yield Step("Nsight Compute", 60,
               [needs.program("ncu_kernels.py", needs.library, needs.out / "ncu.txt", *PROFILED)],
               needs.missing(gpu=True, tools=["ncu"]))
    for tool, options in [("memcheck", []), ("racecheck", ["--racecheck-detect-level", "error"])]:
        command = ["compute-sanitizer", "--tool", tool, "--kernel-name", "kns=colm", "--report-api-errors", "no",
                   "--error-exitcode", "9", *options, sys.executable, HERE / "correctness.py", needs.library,
                   "--small", "--keep-going", "--rows", needs.out / f"{tool}.jsonl"]
        # PyTorch's memory pool would hide accesses out of bounds.
        yield Step(tool, 50, [command], needs.missing(gpu=True, tools=["compute-sanitizer"]),
                   {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})


PARTS = {"first": first, "second": second}

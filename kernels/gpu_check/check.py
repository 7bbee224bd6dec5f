"""What the checks of all kernels share: random inputs, two launches of each, the comparison with a formula."""

import math

import torch

import reference
import table

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Results:
    """The relative errors found so far. With a path, every one is appended there as a JSON line.

    Without `keep_going` the first wrong result ends the program.
    """

    def __init__(self, keep_going=False, path=None):
        self.keep_going, self.path = keep_going, path
        self.worst, self.failures = {}, []

    def add(self, kernel, dtype, case, error, allowed):
        # Not `>=`, so that NaN fails.
        ok = error < allowed
        before = self.worst.get(f"{kernel} {dtype}", 0.0)
        # NaN counts as the largest.
        self.worst[f"{kernel} {dtype}"] = max(before, error, key=lambda error: (math.isnan(error), error))
        self.write(kernel, dtype, case, ok, error=error, allowed=allowed)
        if not ok:
            self.failed(f"{kernel} {dtype} {case}: relative error {error:.2e}, allowed {allowed}")

    def broken(self, kernel, dtype, case, reason):
        """A launch that failed, or whose results cannot be compared."""
        self.write(kernel, dtype, case, False, reason=reason)
        self.failed(f"{kernel} {dtype} {case}: {reason}")

    def failed(self, text):
        self.failures.append(text)
        if not self.keep_going:
            raise SystemExit(text)
        print(f"WRONG: {text}", flush=True)

    def write(self, kernel, dtype, case, ok, **found):
        if self.path:
            table.append(self.path, {"kernel": kernel, "dtype": dtype, "case": case, "ok": ok, **found})


class Check:
    def __init__(self, kernels, dtype, small, results):
        self.kernels, self.device, self.dtype = kernels, kernels.device, dtype
        self.small, self.results = small, results
        self.dtype_name = str(dtype).removeprefix("torch.")

    def tensor(self, *shape):
        return torch.randn(shape, device=self.device, dtype=self.dtype)

    def integers(self, values, dtype):
        return torch.tensor(values, device=self.device, dtype=dtype)

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def twice(self, kernel, case, launch, outs):
        """Launches twice: with a race, the bits would most likely differ. Returns whether the results can be
        compared."""
        try:
            launch()
            self.synchronize()
            first = [out.clone() for out in outs]
            for out in outs:
                out.fill_(float("nan"))
            launch()
            self.synchronize()
        except RuntimeError as error:
            self.results.broken(kernel, self.dtype_name, case, str(error).splitlines()[0])
            return False
        for before, after in zip(first, outs):
            if not torch.equal(before, after):
                self.results.broken(kernel, self.dtype_name, case, "two launches differ, or left NaN")
                return False
        return True

    def note(self, kernel, found, expected, case="", allowed=None):
        error = reference.relative_error(found, expected)
        self.results.add(kernel, self.dtype_name, case, error, allowed or TOLERANCE[self.dtype])

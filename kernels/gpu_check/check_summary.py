"""The results of the checks per kernel, as a Markdown table.

    check_summary.py CHECKS.jsonl
"""

import math
import sys

from table import read


def summary(path):
    """Lines of the table: per kernel and dtype the number of checks, of wrong ones, and the largest error."""
    kernels = {}
    for check in read(path):
        kernels.setdefault((check["kernel"], check["dtype"]), []).append(check)
    lines = ["| kernel | checks | wrong | largest relative error | the first wrong one |", "|---|---:|---:|---:|---|"]
    for (kernel, dtype), checks in sorted(kernels.items()):
        wrong = [check for check in checks if not check["ok"]]
        errors = [check["error"] for check in checks if "error" in check]
        # NaN counts as the largest.
        largest = max(errors, key=lambda error: (math.isnan(error), error), default=math.nan)
        first = f"{wrong[0]['case']} {wrong[0].get('reason', '')}".strip().replace("|", "/") if wrong else ""
        lines.append(f"| {kernel} {dtype} | {len(checks)} | {len(wrong)} | {largest:.1e} | {first} |")
    return lines


if __name__ == "__main__":
    print("\n".join(summary(sys.argv[1])))

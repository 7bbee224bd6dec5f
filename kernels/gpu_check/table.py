"""The table of results, with bounds."""

import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass
class Row:
    what: str
    measured: float
    floor: float
    goal: float
    detail: str
    more_is_better: bool = True

    def reaches(self, bound):
        return self.measured >= bound if self.more_is_better else self.measured <= bound

    def verdict(self):
        if self.reaches(self.goal):
            return "goal"
        return "floor" if self.reaches(self.floor) else "below the floor"

    def markdown(self):
        sign = "" if self.more_is_better else "at most "
        return (f"| {self.what} | {self.measured:.2f} | {sign}{self.floor} | {sign}{self.goal} | "
                f"{self.verdict()} | {self.detail} |")


def first_line(*command):
    """The first line of output of a command; empty if it is missing or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return result.stdout.partition("\n")[0].strip()


def commit():
    described = first_line("git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12")
    return described or "unknown commit"


def markdown(device, software, rows, errors, sanitizers):
    lines = [f"## {device}, {date.today().isoformat()}, {commit()}", "", software, "",
             "| | measured | floor | goal | reached | |", "|---|---:|---:|---:|---|---|"]
    lines += [row.markdown() for row in rows]
    lines += ["", "Relative error against float64, the worst of all shapes:", "",
              "| | error |", "|---|---:|"]
    lines += [f"| {name} | {error:.1e} |" for name, error in errors.items()]
    lines += ["", f"compute-sanitizer: {sanitizers}.", ""]
    return "\n".join(lines)

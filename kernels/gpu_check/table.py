"""The table of results, with bounds. Rows are written when they are measured."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
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


@dataclass
class NotMeasured:
    what: str
    reason: str

    def markdown(self):
        return f"| {self.what} | not run | | | | {self.reason} |"


def append(path, record):
    """Appends one JSON object as a line. Nothing is lost if the process is ended afterwards."""
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")


def read(path):
    """The objects of a file of `append`. A line that was cut off is left out."""
    records = []
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                pass
    return records


class Table:
    """A Markdown file, and the same rows as JSON lines beside it."""

    def __init__(self, path, header):
        self.path = Path(path)
        lines = [*header, "", "| | measured | floor | goal | reached | |", "|---|---:|---:|---:|---|---|"]
        self.path.write_text("\n".join(lines) + "\n")

    def add(self, row):
        with open(self.path, "a") as file:
            file.write(row.markdown() + "\n")
        append(self.path.with_suffix(".jsonl"), asdict(row))
        print(row.markdown(), flush=True)


def first_line(*command):
    """The first line of output of a command; empty if it is missing or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.partition("\n")[0].strip()


def commit():
    """The commit of COLM_COMMIT, which `day` sets where there is no repository, or that of this folder."""
    described = first_line("git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12")
    return os.environ.get("COLM_COMMIT") or described or "unknown commit"


def title(device):
    return f"## {device}, {date.today().isoformat()}, {commit()}"

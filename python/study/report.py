"""Tables and plots of the study."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from runs import Run, Setting, runs

Results = dict[str, dict[str, Any]]
Row = Sequence[Any]

#: The runs of each question, and how they are called.
WIDTHS = {
    "llama": "[32]",
    "colm-1616": "[16, 16], as many parameters",
    "colm-8888": "[8, 8, 8, 8], as many parameters",
    "colm-1616-narrow": "[16, 16], as wide",
    "colm-8888-narrow": "[8, 8, 8, 8], as wide",
}
EVERY_K = {
    "colm-8888-joint": "CoLM, joint loss",
    "air-8888-joint": "CoLM-Air, joint loss",
    "colm-8888": "CoLM, loss at k = 4",
    "elastic-heads": "the same, elastic heads",
}
LLAMAS = ("llama-k1", "llama-k2", "llama")
GROWTH = {
    "llama-k2": "Llama, the start",
    "expanded": "expanded, first chain frozen",
    "trained-on": "the Llama trained on",
    "colm-1616": "the large shape from random weights",
}


def write(folder: Path, name: str, setting: Setting, corpus: dict[str, Any], results: Results) -> None:
    """Writes ``NAME-*.csv`` and ``NAME-*.svg`` into ``folder``, and the tables into its README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[Row, list[Row]]] = {
        "corpus": (["package", "license", "megabytes"], [list(package.values()) for package in corpus["packages"]]),
        "runs": _all_runs(setting, results),
        "widths": _widths(results),
        "every-k": _every_k(results),
        "growth": _growth(results),
    }
    readme = folder / "README.md"
    text = readme.read_text()
    for table, (header, rows) in tables.items():
        with (folder / f"{name}-{table}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        plot = f"![bits per byte over parameters]({name}-{table}.svg)\n\n" if table == "every-k" else ""
        text = _inserted(text, f"{name}-{table}", plot + _markdown(header, rows))
    readme.write_text(text)
    _plot_every_k(folder / f"{name}-every-k.svg", results)


def _all_runs(setting: Setting, results: Results) -> tuple[Row, list[Row]]:
    header = ["run", "chains", "hidden size", "parameters", "recipe", "million tokens", "10^12 multiply-adds"]
    header += ["minutes", "torch", "commit", "date"]

    def row(run: Run) -> Row:
        found = results[run.name]
        shape = run.shape
        start = [
            run.name,
            " ".join(map(str, shape.chains)) + (" (Air)" if shape.air else ""),
            shape.hidden,
            shape.parameters(setting, len(shape.chains)),
            run.recipe + (f" of {run.start}" if run.start else ""),
            f"{run.tokens / 1e6:.2f}",
            f"{run.multiply_adds(setting) / 1e12:.1f}",
        ]
        return [*start, round(found["seconds"] / 60), found["torch"], found["commit"], found["date"]]

    return header, [row(run) for run in runs(setting) if run.name in results]


def _widths(results: Results) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        [called, results[name]["parameters"][-1], _bits(results[name]["bits_per_byte"][-1])]
        for name, called in WIDTHS.items()
        if name in results
    ]
    return ["chains", "parameters", "bits per byte"], rows


def _every_k(results: Results) -> tuple[Row, list[Row]]:
    rows: list[Row] = []
    for name, called in EVERY_K.items():
        if name in results:
            rows.append([called, *map(_bits, results[name]["bits_per_byte"])])
    llamas = [_bits(results[name]["bits_per_byte"][0]) if name in results else "-" for name in LLAMAS]
    rows.append(["a Llama of as many parameters", *llamas[:2], "-", llamas[2]])
    return ["model", "k = 1", "k = 2", "k = 3", "k = 4"], rows


def _growth(results: Results) -> tuple[Row, list[Row]]:
    def row(name: str, called: str) -> Row:
        found = results[name]
        spent = found["multiply_adds"] + (
            results["llama-k2"]["multiply_adds"] if name in ("expanded", "trained-on") else 0
        )
        return [called, found["parameters"][-1], f"{spent / 1e12:.1f}", _bits(found["bits_per_byte"][-1])]

    rows = [row(name, called) for name, called in GROWTH.items() if name in results and "llama-k2" in results]
    return ["model", "parameters", "10^12 multiply-adds so far", "bits per byte"], rows


def _bits(value: float) -> str:
    return f"{value:.3f}"


def _plot_every_k(file: Path, results: Results) -> None:
    plt.rcParams["svg.hashsalt"] = "colm"
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name, called in EVERY_K.items():
        if name in results:
            found = results[name]
            axes.plot([p / 1e6 for p in found["parameters"]], found["bits_per_byte"], marker="o", label=called)
    llamas = [results[name] for name in LLAMAS if name in results]
    if llamas:
        sizes = [found["parameters"][0] / 1e6 for found in llamas]
        axes.plot(sizes, [found["bits_per_byte"][0] for found in llamas], "k--s", label="Llamas, each trained alone")
    axes.set_xlabel("million parameters at k")
    axes.set_ylabel("bits per byte of held-out text")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _markdown(header: Row, rows: Iterable[Row]) -> str:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(map(str, cells)) + " |"

    align = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join([line(header), line(align), *map(line, rows)])


def _inserted(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the markers of ``name``."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"README.md has no {begin} followed by {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"

#!/usr/bin/env python3
"""Trains CoLMs, a CoLM-Air and Llamas on English text, and compares them: `make study-text`.

    python python/study/run.py SETTING [--only RUN ..] [--report DIR]

SETTING is a TOML file of this folder, such as cpu.toml. Everything is kept in target/study-text: a run that is
interrupted continues at its last checkpoint, and one that has ended is not repeated. With --report, tables and plots
of the runs that have ended are written into DIR.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import get_last_checkpoint

import corpus
import report
from bits_per_byte import bits_per_byte
from runs import Run, Setting, runs, write_config

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "python" / "examples" / "train.py"
#: Held-out tokens that are used.
MEASURED_TOKENS = 500_000
CONVERTER = ROOT / "target" / "debug" / "colm-convert"


def main() -> None:
    """Trains what is missing, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("setting", type=Path, help="a TOML file")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="train these runs alone")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write tables and plots into DIR")
    arguments = parser.parse_args()
    setting = Setting.read(arguments.setting)
    folder = ROOT / "target" / "study-text"
    corpus_folder = folder / f"corpus-{setting.vocab_size}"
    facts = corpus.make(corpus_folder, setting.vocab_size)
    study = Study(setting, corpus_folder, folder / arguments.setting.stem)
    unknown = set(arguments.only or ()) - {run.name for run in runs(setting)}
    if unknown:
        sys.exit(f"--only {' '.join(unknown)}: expected some of {' '.join(run.name for run in runs(setting))}")
    for run in runs(setting):
        if not arguments.only or run.name in arguments.only:
            study.train(run)
    if arguments.report:
        report.write(arguments.report, arguments.setting.stem, setting, facts, study.results())


class Study:
    """The runs of a setting, in a folder."""

    def __init__(self, setting: Setting, corpus_folder: Path, folder: Path) -> None:
        self.setting = setting
        self.corpus = corpus_folder
        self.folder = folder

    def results(self) -> dict[str, dict[str, Any]]:
        """What the runs that have ended have found."""
        files = {run.name: self.folder / run.name / "result.json" for run in runs(self.setting)}
        return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}

    def train(self, run: Run) -> None:
        """Trains ``run`` to its end and measures it, unless that is done."""
        folder = self.folder / run.name
        result = folder / "result.json"
        if result.exists():
            return
        start = folder / "start"
        if not start.exists():
            self._prepare(run, start)
        trained = folder / "trained"
        began = time.monotonic()
        self._run_trainer(run, start, trained)
        seconds = time.monotonic() - began
        device = "cpu" if "--use_cpu" in self.setting.flags else "cuda"
        documents = corpus.documents(self.corpus / "validation.jsonl")
        found = {
            "tokens": run.tokens,
            "multiply_adds": run.multiply_adds(self.setting),
            "parameters": [run.shape.parameters(self.setting, k + 1) for k in range(len(run.shape.chains))],
            "bits_per_byte": bits_per_byte(trained, documents, self.setting.length, device, MEASURED_TOKENS),
            # Of the last start alone, if the run was interrupted.
            "seconds": round(seconds),
            "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
            "torch": torch.__version__,
            "commit": _output("git", "rev-parse", "--short", "HEAD"),
            "date": time.strftime("%Y-%m-%d"),
        }
        result.write_text(json.dumps(found, indent=1))
        print(run.name, found["bits_per_byte"], flush=True)

    def _prepare(self, run: Run, start: Path) -> None:
        """Writes the folder that the trainer reads: a config with a tokenizer, or what another run has trained."""
        partial = start.with_name("start.partial")
        shutil.rmtree(partial, ignore_errors=True)
        start.parent.mkdir(parents=True, exist_ok=True)
        source = self.folder / str(run.start) / "trained"
        if run.start is None:
            shutil.copytree(self.corpus / "tokenizer", partial)
            write_config(run.shape, self.setting, partial)
        elif run.recipe == "expansion":
            subprocess.run([CONVERTER, "expand", source, partial, "--chains", "1,1"], check=True)
        else:
            shutil.copytree(source, partial, ignore=shutil.ignore_patterns("checkpoint-*"))
        partial.rename(start)

    def _run_trainer(self, run: Run, start: Path, trained: Path) -> None:
        setting = self.setting
        steps = run.tokens // setting.batch_tokens
        command = [sys.executable, str(TRAIN), "--model", str(start), "--recipe", run.recipe]
        command += ["--text", str(self.corpus / "train.jsonl"), "--length", str(setting.length)]
        command += ["--output_dir", str(trained), f"--max_steps={steps}", f"--warmup_steps={steps // 20}"]
        command += ["--lr_scheduler_type=cosine", "--weight_decay=0.1", "--adam_beta2=0.95", "--report_to=none"]
        command += ["--save_total_limit=1", "--disable_tqdm=True", *setting.flags]
        checkpoint = get_last_checkpoint(str(trained)) if trained.exists() else None
        if checkpoint is not None:
            command += ["--resume_from_checkpoint", checkpoint]
        with (trained.parent / "log.txt").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


if __name__ == "__main__":
    main()

"""Runs the steps of a part of the day, each in its own process and time, and says what is missing for the others.

A step that crashes, hangs or loses the GPU's context does not affect the next. What a step prints goes to log.txt
as it is printed; summary.md has one line per step.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

# Of log.txt, below the limit of a file that comes back.
LOG_LIMIT = 12 << 20


@dataclass
class Step:
    """`commands` run at the same time, for at most `seconds`. `missing` says why the step cannot run."""

    name: str
    seconds: float
    commands: list
    missing: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    folder: Path = None


class Session:
    """One run of a part, of at most `seconds`, with results in the folder `out`."""

    def __init__(self, title, out, seconds):
        self.out, self.end = Path(out), time.monotonic() + seconds
        self.out.mkdir(parents=True, exist_ok=True)
        self.log_bytes, self.log_lock = 0, threading.Lock()
        self.log = self.out / "log.txt"
        self.log.write_text("")
        self.summary = self.out / "summary.md"
        self.summary.write_text(f"## {title}\n\n| step | result | seconds |\n|---|---|---:|\n")
        self.failures = 0

    def write_log(self, text):
        with self.log_lock:
            self.log_bytes += len(text)
            if self.log_bytes < LOG_LIMIT:
                with open(self.log, "a") as file:
                    file.write(text)

    def report(self, step, result, seconds):
        line = f"| {step} | {result} | {seconds:.0f} |\n"
        with open(self.summary, "a") as file:
            file.write(line)
        print(line, end="", flush=True)

    def run(self, step):
        if step.missing:
            self.report(step.name, f"not run: {'; '.join(step.missing)}", 0)
            return
        limit = min(step.seconds, self.end - time.monotonic())
        if limit < 3:
            self.report(step.name, "not run: no time left", 0)
            return
        self.write_log(f"\n=== {step.name}\n")
        start = time.monotonic()
        results = self.run_commands(step, start + limit)
        elapsed = time.monotonic() - start
        if all(result == "ok" for result in results):
            self.report(step.name, "ok", elapsed)
        else:
            self.failures += 1
            named = [f"{label(command)}: {result}" for command, result in zip(step.commands, results)
                     if result != "ok"]
            self.report(step.name, "; ".join(named), elapsed)

    def run_commands(self, step, end):
        environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", **step.environment)
        running = []
        for command in step.commands:
            try:
                process = subprocess.Popen(
                    [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    errors="replace", env=environment, cwd=step.folder or self.out, start_new_session=True)
            except OSError as error:
                running.append((str(error), None))
                continue
            reader = threading.Thread(target=self.copy_output, args=(process, label(command)), daemon=True)
            reader.start()
            running.append((process, reader))
        return [process if reader is None else finished(process, reader, end) for process, reader in running]

    def copy_output(self, process, name):
        with process.stdout:
            for line in process.stdout:
                self.write_log(f"{name}: {line}")


def label(command):
    """The program of a command, and the value of its first --part."""
    command = [str(part) for part in command]
    name = Path(command[1] if command[0] == sys.executable and len(command) > 1 else command[0]).stem
    return f"{name} {command[command.index('--part') + 1]}" if "--part" in command else name


def finished(process, reader, end):
    """Waits for a process until `end`, then ends it and its children. Returns `ok` or what happened."""
    try:
        process.wait(max(end - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "timed out; what was written until then is there"
    reader.join(2)
    if process.returncode < 0:
        return f"ended by signal {signal.Signals(-process.returncode).name}"
    return "ok" if process.returncode == 0 else f"exit status {process.returncode}"

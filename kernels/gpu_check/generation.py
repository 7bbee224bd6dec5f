"""Generation by the whole engine: CoLM-Air in the shape of Llama-3.2-1B, with random weights.

    generation.py COLM FOLDER OUT.jsonl [--small]

Writes the model to FOLDER, answers one prompt, and runs `colm bench` at 1 and 4 chains. Every result is appended to
OUT.jsonl when it is there. `--small` is a small model on the CPU.
"""

import argparse
import json
import subprocess
import time
from dataclasses import replace

import random_model
import table
from chain_model import SMALL, Shape

# Prompt tokens, decoded tokens, concurrent requests.
RUNS = [(2048, 64, 1), (8192, 16, 1), (1024, 64, 16)]
SMALL_RUNS = [(32, 4, 1), (16, 4, 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("colm")
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    start = time.monotonic()
    random_model.write(arguments.folder, replace(SMALL, vocabulary=1000) if arguments.small else Shape())
    print(f"model written in {time.monotonic() - start:.1f} s", flush=True)
    engine = ["-m", arguments.folder, "--dtype", "bf16", "--kv-cache-mb", "64" if arguments.small else "8192"]
    failed = 0

    def colm(what, *options):
        start = time.monotonic()
        result = subprocess.run([arguments.colm, *options, *engine], capture_output=True, text=True, errors="replace",
                                check=False)
        nonlocal failed
        failed += result.returncode != 0
        record = {"what": what, "exit_status": result.returncode, "seconds": time.monotonic() - start}
        try:
            record["result"] = json.loads(result.stdout)
        except ValueError:
            record["result"] = result.stdout[:2000]
        if result.returncode != 0 or what == "run":
            record["stderr"] = result.stderr[-4000:]
        table.append(arguments.out, record)
        print(json.dumps(record), flush=True)

    colm("run", "run", "-i", "What is 27 + 58?", "--max-tokens", "32", "--temperature", "0", "--chains", "4")
    for prompt, decode, requests in SMALL_RUNS if arguments.small else RUNS:
        colm("bench", "bench", "-p", str(prompt), "-n", str(decode), "-c", str(requests), "--chains", "1,4",
             "--runs", "3", "--json")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()

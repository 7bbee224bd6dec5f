"""lm-evaluation-harness with `colm serve`: loglikelihood tasks over the completions endpoint.

One task is multiple choice on sums, which the shipped model was trained on. The other scores a text, and must agree
with `colm perplexity`. COLM_BIN is the program (default: target/debug/colm). Nothing is downloaded.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(os.environ.get("COLM_BIN", ROOT / "target/debug/colm")).absolute()
MODEL = ROOT / "models/tiny-colm-air"

SUMS = """
task: colm_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "<|user|>{{{{question}}}}<|end|><|assistant|>"
target_delimiter: ""
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""

TEXT = """
task: colm_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/text.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
target_delimiter: ""
doc_to_choice: "{{{{[rest]}}}}"
doc_to_target: 0
metric_list: [{{metric: acc}}]
"""

START = "<|user|>"
REST = "Sort 93 3 71 18.<|end|><|assistant|>3 18 71 93"


def rows(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def write_tasks(folder):
    sums = [
        {"question": f"What is {a} + {b}?", "choices": [str(a + b), str(a + b + 7), str(a + b - 3)]}
        for a in range(11, 31)
        for b in (17, 25)
    ]
    rows(folder / "sums.jsonl", [{**one, "answer": 0} for one in sums])
    rows(folder / "text.jsonl", [{"start": START, "rest": REST}])
    (folder / "sums.yaml").write_text(SUMS.format(folder=folder))
    (folder / "text.yaml").write_text(TEXT.format(folder=folder))


def evaluated(folder, url, k):
    arguments = (
        f"model={MODEL.name}@{k},base_url={url}/v1/completions,tokenizer={MODEL},"
        "max_length=1024,num_concurrent=4,tokenized_requests=True"
    )
    command = [
        Path(sys.executable).with_name("lm_eval"), "--model", "local-completions",
        "--model_args", arguments, "--tasks", "colm_sums,colm_text", "--include_path", folder,
        "--batch_size", "8", "--log_samples", "--output_path", folder / f"out{k}",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (folder / f"out{k}").rglob("results*.json")
    (samples,) = (folder / f"out{k}").rglob("samples_colm_text*.jsonl")
    loglikelihood = float(json.loads(samples.read_text().splitlines()[0])["filtered_resps"][0][0])
    return json.loads(result.read_text())["results"]["colm_sums"]["acc,none"], loglikelihood


def by_perplexity(folder, k):
    """The log-likelihood of the text after its first token, which is START."""
    text = folder / "text.txt"
    text.write_text(START + REST)
    command = [BIN, "perplexity", "-m", MODEL, "-f", text, "--chains", str(k), "--json"]
    (row,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return -row["nll"] * row["tokens"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_tasks(folder)
        command = [BIN, "serve", "-m", MODEL, "-p", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                url = server.stderr.readline().split()[5].removesuffix("/v1,")
                for k in (1, 4):
                    accuracy, loglikelihood = evaluated(folder, url, k)
                    expected = by_perplexity(folder, k)
                    print(f"k = {k}: accuracy {accuracy:.3f}, log-likelihood {loglikelihood:.6f}, "
                          f"colm perplexity says {expected:.6f}")
                    assert accuracy > 0.9, accuracy
                    assert math.isclose(loglikelihood, expected, abs_tol=1e-4)
            finally:
                server.terminate()


if __name__ == "__main__":
    main()

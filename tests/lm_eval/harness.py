"""lm-evaluation-harness on two tasks of this repository, and the server to run it against.

One task is multiple choice on sums, which the shipped model was trained on. The other scores a text. COLM_BIN is the
program (default: target/debug/colm). Nothing is downloaded.
"""

import contextlib
import json
import os
import subprocess
import sys
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


@contextlib.contextmanager
def server():
    """`colm serve` with the shipped model. Yields its URL."""
    command = [BIN, "serve", "-m", MODEL, "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process.stderr.readline().split()[5].removesuffix("/v1,")
        finally:
            process.terminate()


def over_http(folder, url, k):
    """The results of the server's model at k chains."""
    arguments = (
        f"model={MODEL.name}@{k},base_url={url}/v1/completions,tokenizer={MODEL},"
        "max_length=1024,num_concurrent=4,tokenized_requests=True"
    )
    return evaluated(folder, folder / f"http{k}", "local-completions", arguments)


def evaluated(folder, output, model, arguments, *flags):
    """The accuracy on the sums, and for each question of each task the choices: [log-likelihood, whether greedy]."""
    command = [
        Path(sys.executable).with_name("lm_eval"), "--model", model, "--model_args", arguments,
        "--tasks", "colm_sums,colm_text", "--include_path", folder, "--batch_size", "8",
        "--log_samples", "--output_path", output, *flags,
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = output.rglob("results*.json")
    accuracy = json.loads(result.read_text())["results"]["colm_sums"]["acc,none"]
    choices = {}
    for task in ("colm_sums", "colm_text"):
        (samples,) = output.rglob(f"samples_{task}*.jsonl")
        rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
        choices[task] = [[(float(value), str(greedy)) for value, greedy in row["filtered_resps"]] for row in rows]
    return accuracy, choices

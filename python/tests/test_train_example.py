"""examples/train.py: the recipes, resuming, and two processes."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

import colm
from cases import ROOT, SHIPPED, load

SCRIPT = ROOT / "python" / "examples" / "train.py"
COMMON = [
    *("--model", str(SHIPPED[1]), "--length", "32", "--use_cpu", "--report_to", "none", "--logging_steps", "1"),
    *("--disable_tqdm", "True", "--learning_rate", "0.001", "--lr_scheduler_type", "constant"),
]
Train = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """Two documents."""
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, word in zip(paths, ("Sort 93 3 71 18. ", "Add 45 and 70. "), strict=True):
        path.write_text(word * 30)
    return [str(path) for path in paths]


@pytest.fixture
def train(text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs the script in this process and returns the tensors that it saves."""

    def run(*flags: str, output: str = "trained", source: Sequence[str] = ("--text", *text)) -> dict[str, torch.Tensor]:
        arguments = [str(SCRIPT), *COMMON, *source, "--output_dir", str(tmp_path / output), *flags]
        monkeypatch.setattr(sys, "argv", arguments)
        # TrainingArguments writes into the environment, for accelerate.
        with mock.patch.dict(os.environ):
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return load_file(tmp_path / output / "model.safetensors")

    return run


def initial() -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in load(SHIPPED[1], torch.float32).named_parameters()}


def test_documents_come_from_files_json_lines_or_a_data_set(train: Train, text: list[str], tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": Path(file).read_text()}) + "\n" for file in text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(lines)
    flags = ["--recipe", "joint", "--max_steps", "2"]
    files = train(*flags, output="files")
    for source in (["--text", str(tmp_path / "data" / "train.jsonl")], ["--dataset", str(tmp_path / "data")]):
        other = train(*flags, output="other", source=source)
        assert all(torch.equal(files[name], other[name]) for name in files), source


def test_a_tokenizer_needs_no_padding_token(train: Train, tmp_path: Path) -> None:
    """Llama's has none."""
    model = tmp_path / "model"
    shutil.copytree(SHIPPED[1], model)
    file = model / "tokenizer_config.json"
    fields = json.loads(file.read_text())
    del fields["pad_token"]
    file.write_text(json.dumps(fields))
    train("--recipe", "joint", "--max_steps", "1", "--model", str(model))


@pytest.mark.parametrize("line", ["not JSON", "[1]", '{"txt": "a"}'])
def test_json_lines_without_text_are_refused(line: str, train: Train, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "good"}\n' + line)
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2: expected an object with a string `text`"):
        train("--recipe", "joint", source=["--text", str(file)])


KEPT: dict[str, Callable[[str], bool]] = {
    "pretrain": lambda name: False,
    "joint": lambda name: False,
    "elastic-heads": lambda name: not name.startswith("lm_head."),
    "expansion": lambda name: colm.chain_of(name) == 0,
    "chain-tuning": lambda name: colm.chain_of(name) < 3,
}


@pytest.mark.parametrize("recipe", KEPT)
def test_a_recipe_trains_what_it_says(recipe: str, train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else keeps its bits."""
    before = initial()
    after = train("--recipe", recipe, "--max_steps", "2", "--save_strategy", "no")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]) == KEPT[recipe](name), name
    assert ("loss_at_4" in capsys.readouterr().out) == (recipe in ("joint", "elastic-heads"))


def test_a_resumed_run_has_the_same_bits(train: Train, tmp_path: Path) -> None:
    flags = ["--recipe", "joint", "--loss_weights", "1", "2", "3", "4", "--max_steps", "4"]
    flags += ["--per_device_train_batch_size", "2", "--save_steps", "2"]
    whole = train(*flags, output="whole")
    resumed = train(*flags, "--resume_from_checkpoint", str(tmp_path / "whole" / "checkpoint-2"), output="resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "resumed" / "checkpoint-2").exists(), "the first steps are not run again"


def test_fsdp_on_a_cpu_is_refused(train: Train) -> None:
    """Accelerate would go on without it."""
    with pytest.raises(SystemExit, match="--fsdp shards on GPUs"):
        train("--recipe", "pretrain", "--max_steps", "1", "--fsdp", "full_shard")


def test_random_weights_and_wrong_flags(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((SHIPPED[0] / name).read_bytes())
    flags = ("--model", str(folder), "--max_steps", "1", "--save_strategy", "no")
    assert "model.norm.chains.3.weight" in train(*flags, "--recipe", "pretrain")
    with pytest.raises(ValueError, match="--loss_weights with --recipe pretrain; expected joint or elastic-heads"):
        train(*flags, "--recipe", "pretrain", "--loss_weights", "1")
    with pytest.raises(ValueError, match="tokens; expected at least --length 5000"):
        train(*flags, "--recipe", "pretrain", "--length", "5000")


def test_two_processes_equal_one(train: Train, text: list[str], tmp_path: Path) -> None:
    """Expansion with a frozen first chain: the same bits there, the same weights up to rounding elsewhere."""
    flags = ["--recipe", "expansion", "--max_steps", "3", "--save_strategy", "no", "--optim", "sgd"]
    flags += ["--learning_rate", "0.1"]
    one = train(*flags, "--per_device_train_batch_size", "4", output="one")
    # `timeout` lets torchrun end its workers.
    command = ["timeout", "300", sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*command, str(SCRIPT), *COMMON, "--text", *text, "--output_dir", str(tmp_path / "two"), *flags]
    command += ["--per_device_train_batch_size", "2", "--ddp_backend", "gloo"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python" / "src"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    two = load_file(tmp_path / "two" / "model.safetensors")
    before = initial()
    assert two.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(two[name], value) == (colm.chain_of(name) == 0), name
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)

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
from transformers import AutoTokenizer, TrainingArguments

import colm
from cases import ROOT, SHIPPED, load, small_config

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


def test_the_checkpoint_to_resume(train: Train, tmp_path: Path) -> None:
    """A folder, or `true` for the last one."""
    named = runpy.run_path(str(SCRIPT), run_name="train")["checkpoint_to_resume"]
    folders = [tmp_path / "out" / f"checkpoint-{step}" for step in (9, 10)]
    for folder in folders:
        folder.mkdir(parents=True)
    first, last = map(str, folders)
    for value, expected in [(None, None), ("false", None), ("true", last), ("True", last), (first, first)]:
        arguments = TrainingArguments(output_dir=str(tmp_path / "out"), resume_from_checkpoint=value)
        assert named(arguments) == expected, value
    for value, message in [("true", "true: expected a folder checkpoint-N in .*none"), ("tru", "tru: no such folder")]:
        with pytest.raises(SystemExit, match=f"--resume_from_checkpoint {message}"):
            train("--recipe", "joint", "--resume_from_checkpoint", value, output="none")


def test_fsdp_on_a_cpu_is_refused(train: Train) -> None:
    """Accelerate would go on without it."""
    with pytest.raises(SystemExit, match="--fsdp shards on GPUs"):
        train("--recipe", "pretrain", "--max_steps", "1", "--fsdp", "full_shard")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor 0.1: the Trainer would replace the loss"),
        (["--neftune_noise_alpha", "5"], "--neftune_noise_alpha 5.0: the Trainer knows models with one embedding"),
        (["--use_liger_kernel"], "--use_liger_kernel True: liger has no kernels for CoLM"),
        (["--eval_strategy", "epoch"], "--eval_strategy epoch: this script has no data to evaluate on"),
        (["--do_eval"], "--do_eval True: this script has no data to evaluate on"),
        (["--do_predict"], "--do_predict True: this script has no data"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_that_break_a_recipe_are_refused(flags: list[str], message: str, train: Train) -> None:
    """Before anything is loaded: there is no such model."""
    with pytest.raises(SystemExit, match=message):
        train("--recipe", "joint", "--model", "no/such/folder", *flags)


def test_several_gpus_in_one_process_are_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(SystemExit, match=r"one process with 2 GPUs; expected .* \(torchrun --nproc_per_node 2"):
        train("--recipe", "joint")


def test_fsdp_with_tied_embeddings_is_refused(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_config(tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    monkeypatch.setattr(TrainingArguments, "device", torch.device("cuda"))
    with pytest.raises(SystemExit, match=r"--fsdp with .*tied: tie_word_embeddings = true, .*; expected heads"):
        train("--recipe", "joint", "--fsdp", "full_shard", "--model", str(tmp_path / "tied"))


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A folder with a config and a tokenizer, but no weights."""
    folder = tmp_path / "untrained"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((SHIPPED[0] / name).read_bytes())
    return folder


def test_random_weights_and_wrong_flags(train: Train, untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", str(untrained), "--max_steps", "1", "--save_strategy", "no")
    assert "model.norm.chains.3.weight" in train(*flags, "--recipe", "pretrain")
    assert f"{untrained} has no weight files: the initial weights are random" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--loss_weights with --recipe pretrain; expected joint or elastic-heads"):
        train(*flags, "--recipe", "pretrain", "--loss_weights", "1")
    with pytest.raises(ValueError, match="tokens; expected at least --length 5000"):
        train(*flags, "--recipe", "pretrain", "--length", "5000")
    for recipe in ("elastic-heads", "expansion", "chain-tuning"):
        with pytest.raises(SystemExit, match=f"--recipe {recipe} would freeze random weights: .* has no weight files"):
            train(*flags, "--recipe", recipe)


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors.index.json",
        "pytorch_model.bin.index.json",
        "consolidated.00.pth",
        ".cache/huggingface/download/x.incomplete",
    ],
)
def test_a_folder_with_weights_that_cannot_be_read_is_no_random_model(file: str, train: Train, untrained: Path) -> None:
    """An interrupted download, or another format."""
    path = untrained / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"x": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(OSError, match=r"model|no file named"):
        train("--recipe", "pretrain", "--model", str(untrained))


def test_a_model_of_another_type_is_refused(train: Train, untrained: Path) -> None:
    fields = json.loads((untrained / "config.json").read_text())
    llama = {name: value for name, value in fields.items() if name not in ("chains", "architectures")}
    (untrained / "config.json").write_text(json.dumps({**llama, "model_type": "llama"}))
    with pytest.raises(
        SystemExit, match="model_type = 'llama'; expected colm or colm_air, which `colm-convert expand`"
    ):
        train("--recipe", "pretrain", "--model", str(untrained))


def logged(folder: Path) -> list[list[float]]:
    """The losses at every k that a run with one checkpoint logged, step by step."""
    (state,) = folder.glob("checkpoint-*/trainer_state.json")
    entries = [entry for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]
    return [[entry[name] for name in sorted(entry) if name.startswith("loss_at_")] for entry in entries]


def test_the_logged_losses_are_those_of_the_model(train: Train, text: list[str], tmp_path: Path) -> None:
    """Of the initial weights at the first step, on all of the text."""
    data = runpy.run_path(str(SCRIPT), run_name="train")["PackedText"](
        [Path(file).read_text() for file in text], AutoTokenizer.from_pretrained(SHIPPED[1]), 32
    )
    train("--recipe", "joint", "--max_steps", "1", "--per_device_train_batch_size", str(len(data)))
    model = load(SHIPPED[1], torch.float32)
    with torch.no_grad():
        expected = [model(data.sequences, labels=data.sequences, chains=k).loss.item() for k in (1, 2, 3, 4)]
    assert logged(tmp_path / "trained")[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("recipe", ["expansion", "joint"])
def test_two_processes_equal_one(recipe: str, train: Train, text: list[str], tmp_path: Path) -> None:
    """The same bits in a frozen first chain, the same weights up to rounding elsewhere, and the same logged losses."""
    flags = ["--recipe", recipe, "--max_steps", "3", "--save_steps", "3", "--optim", "sgd", "--learning_rate", "0.1"]
    one = train(*flags, "--per_device_train_batch_size", "4", output="one")
    # `timeout` lets torchrun end its workers.
    command = ["timeout", "300", sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += [str(ROOT / "python" / "tests" / "run_to_end.py"), str(SCRIPT), *COMMON, "--text", *text]
    command += ["--output_dir", str(tmp_path / "two"), *flags]
    command += ["--per_device_train_batch_size", "2", "--ddp_backend", "gloo"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python" / "src"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    two = load_file(tmp_path / "two" / "model.safetensors")
    before = initial()
    assert two.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(two[name], value) == KEPT[recipe](name), name
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)
    assert [len(losses) for losses in logged(tmp_path / "two")] == [4 if recipe == "joint" else 0] * 3
    for of_one, of_two in zip(logged(tmp_path / "one"), logged(tmp_path / "two"), strict=True):
        assert of_two == pytest.approx(of_one, rel=1e-4)

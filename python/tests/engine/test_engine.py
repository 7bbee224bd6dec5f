"""The package against the engine: the same answers, and checkpoints that go from here to there as they are."""

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import colm
from cases import ROOT, SHIPPED, load


def questions() -> list[str]:
    """One held-out question of each of the first kinds, as a user asks it."""
    with (ROOT / "examples" / "held_out.tsv").open() as file:
        prompts = [row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    found = [re.search(r"<\|user\|>([^<]*)<\|end\|><\|assistant\|>$", prompt) for prompt in prompts]
    single = [match[1] for match in found if match is not None and match.start() == 0]
    assert len(single) > 50, prompts
    return single[::4]


def answers_of_the_engine(colm_bin: Path, folder: Path, k: int, prompts: list[str]) -> list[str]:
    """Each line of stdin is answered independently, on a line of stdout."""
    command: list[str | Path] = [
        colm_bin,
        "run",
        "-m",
        folder,
        "--chains",
        str(k),
        "--temperature",
        "0",
        "--max-tokens",
        "24",
    ]
    run = subprocess.run(command, input="\n".join(prompts) + "\n", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(prompts), run.stdout
    return lines


def answers_of_the_package(model: colm.ColmForCausalLM, tokenizer: Any, k: int, prompts: list[str]) -> list[str]:
    """All prompts in one batch, padded on the left."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    output = model.generate(**inputs, max_new_tokens=24, do_sample=False, chains=k)
    return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_greedy_answers_at_every_k(colm_bin: Path, folder: Path) -> None:
    model, tokenizer, prompts = load(folder, torch.float32), AutoTokenizer.from_pretrained(folder), questions()
    answers = {}
    for k in (1, 2, 3, 4):
        answers[k] = answers_of_the_package(model, tokenizer, k, prompts)
        assert answers[k] == answers_of_the_engine(colm_bin, folder, k, prompts)
    assert answers[1] != answers[4], "the models at 1 and 4 chains differ"


@pytest.mark.parametrize("shard_size", ["50GB", "1MB"], ids=["one file", "shards"])
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_trained_checkpoint_has_the_same_losses_in_the_engine(
    colm_bin: Path, folder: Path, shard_size: str, tmp_path: Path
) -> None:
    """After one step with the joint loss, saved by save_pretrained, at every k."""
    model, tokenizer = load(folder, torch.float32).train(), AutoTokenizer.from_pretrained(folder)
    text = (ROOT / "examples" / "held_out.tsv").read_text()[:600]
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    model.set_loss_weights([1, 2, 3, 4])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = model(tokens, labels=tokens)
    before.loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = model.eval()(tokens, labels=tokens)
    assert after.loss < before.loss - 0.1

    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    tokenizer.save_pretrained(tmp_path)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "1MB")
    (tmp_path / "text.txt").write_text(text)
    command: list[str | Path] = [colm_bin, "perplexity", "-m", tmp_path, "-f", tmp_path / "text.txt", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert [row["tokens"] for row in found] == [tokens.shape[1] - 1] * 4
    losses = torch.tensor([row["nll"] for row in found])
    torch.testing.assert_close(losses, after.chain_losses, rtol=0, atol=2e-5)

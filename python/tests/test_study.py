"""study/: the sizes of its models, its text, and its measure."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import corpus
from bits_per_byte import bits_per_byte
from cases import ROOT, SHIPPED
from runs import Run, Setting, runs, write_config

SETTINGS = [Setting.read(file) for file in sorted((ROOT / "python" / "study").glob("*.toml"))]
RUNS = [(setting, run) for setting in SETTINGS for run in runs(setting)]


@pytest.mark.parametrize(("setting", "run"), RUNS, ids=[f"{setting.hidden}-{run.name}" for setting, run in RUNS])
def test_parameters_are_those_of_the_model(setting: Setting, run: Run, tmp_path: Path) -> None:
    write_config(run.shape, setting, tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    count = {name: value.numel() for name, value in model.named_parameters()}
    n = len(run.shape.chains)
    assert sum(count.values()) == run.shape.parameters(setting, n)
    multiplied = sum(size for name, size in count.items() if "norm" not in name and "embed" not in name)
    assert multiplied == run.shape.multiplied(setting, n)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.hidden}")
def test_runs_begin_with_what_earlier_runs_have_trained(setting: Setting) -> None:
    done: set[str | None] = {None}
    for run in runs(setting):
        assert run.start in done, run
        done.add(run.name)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.hidden}")
def test_models_of_as_many_parameters_differ_by_6_percent_at_most(setting: Setting) -> None:
    shapes = {run.name: run.shape for run in runs(setting)}
    size = shapes["llama"].parameters(setting, 1)
    colm = shapes["colm-8888"]
    pairs = [(colm.parameters(setting, 4), size), (shapes["colm-1616"].parameters(setting, 2), size)]
    pairs += [(shapes[f"llama-k{k}"].parameters(setting, 1), colm.parameters(setting, k)) for k in (1, 2)]
    assert all(0.94 < one / other < 1.06 for one, other in pairs), pairs


def test_paragraphs_of_prose_are_kept_once(tmp_path: Path) -> None:
    words = "A sentence that is long enough to be a paragraph of prose, not a caption."
    page = f"<body><p>Home</p><p>{words}</p><ul><li>{words} <b>Twice.</b></li></ul><pre>x</pre><p>{words}</p></body>"
    (tmp_path / "page.html").write_text(page)
    seen: set[bytes] = set()
    ((name, paragraphs),) = corpus._read(tmp_path, "*.html")
    assert name == "page.html"
    assert list(corpus._new(paragraphs, seen)) == [words, f"{words} Twice."]


def test_bits_per_byte_is_that_of_transformers() -> None:
    text = "Sort 93 3 71 18. Add 45 and 70. " * 40
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED[1])
    found = bits_per_byte(SHIPPED[1], [text], 32, "cpu", 64)
    tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, :64].view(2, 32)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED[1], dtype=torch.float32)
    size = sum(len(tokenizer.decode(window[1:]).encode()) for window in tokens)
    for k, bits in enumerate(found, start=1):
        loss = model(tokens, labels=tokens, chains=k).loss.item()
        assert bits == pytest.approx(loss * 62 / math.log(2) / size, rel=1e-5)

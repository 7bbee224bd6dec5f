"""Losses and gradients against the float64 ones of tests/golden/gradients, for every recipe.

``examples/train/tests/it/gradients.rs`` compares the trainer in Rust with the same files.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

import colm
from cases import GOLDEN, ROOT, load
from dense_reference import ExactRotation

CASES = sorted(path for path in (GOLDEN / "gradients").iterdir() if path.is_dir())
EXAMPLE = runpy.run_path(str(ROOT / "python" / "examples" / "train.py"))
#: The largest difference, relative to the largest entry of the gradient at any k. In float64 it is the rounding of the
#: stored gradients, which are F32 (6e-8). In float32 it is up to 1e-5: gradients pass through two layers of sums that
#: partly cancel, and each is rounded by 6e-8.
TOLERANCES = {torch.float64: 2e-7, torch.float32: 1e-4}


def load_exact(case: Path) -> colm.ColmForCausalLM:
    """The model in float64, RoPE included."""
    model = load(case)
    model.model.rotary_emb = ExactRotation(json.loads((case / "config.json").read_text()))
    return model


def batch(case: Path) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Padded tokens [2, length], labels with -100 for what is not predicted, and the losses at k = 1, 2, .. n."""
    expected = json.loads((case / "expected.json").read_text())
    rows = [torch.tensor(tokens) for tokens in expected["tokens"]]
    predicted = [torch.tensor(row) for row in expected["predicted"]]
    labels = [row.masked_fill(~own, -100) for row, own in zip(rows, predicted, strict=True)]
    losses = [expected["nll"][str(k)] for k in range(1, len(expected["nll"]) + 1)]
    return pad_sequence(rows, batch_first=True), pad_sequence(labels, batch_first=True, padding_value=-100), losses


def expected_gradient(
    gradients: dict[str, torch.Tensor], name: str, weights: list[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum of the gradients at k = 1, 2, .. n, and the largest entry of its terms."""
    terms = []
    for k, weight in enumerate(weights, start=1):
        # A later chain has no effect at k, and no gradient.
        if (gradient := gradients.get(f"{k}.{name}")) is not None:
            terms.append(weight * gradient.double())
    every = torch.stack(terms)
    return every.sum(0), every.abs().max()


def runs() -> Iterator[Any]:
    """Case, recipe and loss weights of every run that is valid."""
    for case in CASES:
        fields = json.loads((case / "config.json").read_text())
        weights = [0.5, 1.0, 3.0][: len(fields["chains"])]
        for recipe in EXAMPLE["RECIPES"]:
            if recipe == "elastic-heads" and fields["tie_word_embeddings"]:
                continue
            yield pytest.param(case, recipe, None, id=f"{case.name}-{recipe}")
            if recipe in ("joint", "elastic-heads"):
                yield pytest.param(case, recipe, weights, id=f"{case.name}-{recipe}-weighted")


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("case", "recipe", "given"), list(runs()))
def test_gradients_of_every_recipe(case: Path, recipe: str, given: list[float] | None, dtype: torch.dtype) -> None:
    model = load_exact(case) if dtype == torch.float64 else load(case, dtype)
    EXAMPLE["apply"](EXAMPLE["Recipe"](model="", recipe=recipe, text=[], loss_weights=given), model)
    tokens, labels, losses = batch(case)
    output = model(tokens, labels=labels)
    output.loss.backward()

    chains = len(losses)
    at_every_k = recipe in ("joint", "elastic-heads")
    weights = (given or [1.0] * chains) if at_every_k else [0.0] * (chains - 1) + [1.0]
    weights = [weight / sum(weights) for weight in weights]
    loss = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    assert output.loss.item() == pytest.approx(loss, rel=0, abs=1e-12 if dtype == torch.float64 else 1e-5)
    gradients = load_file(case / "gradients.safetensors")
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    for name, parameter in trained.items():
        expected, largest = expected_gradient(gradients, name, weights)
        assert largest > 1e-5, name
        torch.testing.assert_close(
            parameter.grad.double(), expected, rtol=0, atol=TOLERANCES[dtype] * largest.item(), msg=name
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_of_the_loss_at_each_k(case: Path) -> None:
    """In float64. Later chains have no gradient."""
    model = load_exact(case)
    gradients = load_file(case / "gradients.safetensors")
    tokens, labels, losses = batch(case)
    for k, loss in enumerate(losses, start=1):
        model.zero_grad(set_to_none=True)
        output = model(tokens, labels=labels, chains=k)
        output.loss.backward()
        assert output.loss.item() == pytest.approx(loss, rel=0, abs=1e-12)
        found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        assert {f"{k}.{name}" for name in found} == {name for name in gradients if name.startswith(f"{k}.")}
        for name, gradient in found.items():
            expected = gradients[f"{k}.{name}"].double()
            largest = expected.abs().max().item()
            torch.testing.assert_close(gradient, expected, rtol=0, atol=TOLERANCES[torch.float64] * largest, msg=name)


def test_the_cases_cover_both_variants() -> None:
    configs = [json.loads((case / "config.json").read_text()) for case in CASES]
    for variant in ("colm", "colm_air"):
        of_variant = [config for config in configs if config["model_type"] == variant]
        assert any(config.get("qk_norm") and config["attention_bias"] and config["mlp_bias"] for config in of_variant)
        assert any(config.get("chain_widths") for config in of_variant)
    assert any(config["tie_word_embeddings"] for config in configs)
    assert {colm.chain_of(name) for name in load_file(CASES[0] / "gradients.safetensors")} == {0, 1, 2}

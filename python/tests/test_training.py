"""Training: checkpointing, compilation, frozen chains, and the losses of the Trainer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

import colm
from cases import ROOT, load, random_tokens, small_model
from fsdp2 import prepared, steps


def gradients(model: colm.ColmForCausalLM, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    model(tokens, labels=tokens).loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("air", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(air: bool, reentrant: bool) -> None:
    model, tokens = small_model(air).train(), random_tokens(2, 8)
    model.set_loss_weights([1, 1, 1])
    expected = gradients(model, tokens)
    calls = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found = gradients(model, tokens)
    assert len(calls) == 2, "the layer is computed again in the backward pass"
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("air", [False, True])
def test_compiles_without_graph_breaks(air: bool) -> None:
    """The loss and its gradients, at every k, in one graph."""
    model, tokens = small_model(air, qk_norm=True).train(), random_tokens(2, 8)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for k in (1, 2, 3):
        expected = model(tokens, labels=tokens, chains=k)
        found = compiled(tokens, labels=tokens, chains=k)
        torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=1e-12)
    model.set_loss_weights([1, 2, 3])
    expected_gradients = gradients(model, tokens)
    model.zero_grad(set_to_none=True)
    compiled(tokens, labels=tokens).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_gradients[name], rtol=0, atol=1e-12, msg=name)


def step(model: colm.ColmForCausalLM) -> None:
    """One step of AdamW with weight decay over all parameters."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    tokens = random_tokens(2, 8)
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()


@pytest.mark.parametrize("air", [False, True])
@pytest.mark.parametrize("frozen", [range(1), range(2), [1]])
def test_frozen_chains_keep_their_bits(air: bool, frozen: range | list[int]) -> None:
    model, tokens = small_model(air).train(), random_tokens(2, 8)
    model.set_loss_weights([1, 1, 1])
    colm.freeze_chains(model, frozen)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        logits = model(tokens, chains=1).logits
    step(model)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (colm.chain_of(name) in frozen), name
    with torch.no_grad():
        assert torch.equal(model(tokens, chains=1).logits, logits) == (0 in frozen)


@pytest.mark.parametrize("reentrant", [None, False])
def test_frozen_first_chains_cost_no_backward_pass(reentrant: bool | None) -> None:
    """Nothing of the graph leads to their outputs, in any layer."""
    model, tokens = small_model().train(), random_tokens(2, 8)
    colm.freeze_chains(model, range(2))
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    recorded: dict[int, set[bool]] = {i: set() for i in range(3)}
    for name, module in model.named_modules():
        owner = name.rsplit(".chains.", 1)[-1]
        if owner.isdigit():
            module.register_forward_hook(lambda _m, _i, output, i=int(owner): recorded[i].add(output.requires_grad))
    model(tokens, labels=tokens).loss.backward()
    assert recorded == {0: {False}, 1: {False}, 2: {True}}


def test_elastic_heads_train_the_heads_alone() -> None:
    model = small_model().train()
    colm.freeze_backbone(model)
    model.set_loss_weights([1, 1, 1])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    step(model)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) != name.startswith("lm_head."), name
    with pytest.raises(ValueError, match="tie_word_embeddings = true"):
        colm.freeze_backbone(small_model(tie_word_embeddings=True))
    with pytest.raises(ValueError, match=r"chains \[3\]: the model has chains 0 to 2"):
        colm.freeze_chains(model, [3])


def test_the_loss_is_a_weighted_mean() -> None:
    model, tokens = small_model(), random_tokens(3, 8)
    labels = tokens.clone()
    labels[0, :5] = -100
    with torch.no_grad():
        alone = torch.stack([model(tokens, labels=labels, chains=k).loss for k in (1, 2, 3)])
        model.set_loss_weights([1, 0, 3])
        joint = model(tokens, labels=labels)
        torch.testing.assert_close(joint.chain_losses, alone)
        torch.testing.assert_close(joint.loss, (alone[0] + 3 * alone[2]) / 4)
        torch.testing.assert_close(model(tokens, labels=labels, chains=2).loss, alone[0])
        # As the Trainer accumulates gradients: the sum over this batch, divided by the tokens of all batches.
        predicted = int((labels[:, 1:] != -100).sum())
        for items in (2 * predicted, torch.tensor(2 * predicted), torch.tensor([[2 * predicted]])):
            torch.testing.assert_close(model(tokens, labels=labels, num_items_in_batch=items).loss, joint.loss / 2)
    for weights, message in [
        ([1, 1], "2 loss weights; expected 3, one for each chain count"),
        ([0, 0, 0], "expected no negative number, and one above 0"),
        ([1, -1, 1], "expected no negative number"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.set_loss_weights(weights)


def test_labels_may_be_shifted_already() -> None:
    model, tokens = small_model(), random_tokens(2, 8)
    shifted = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
    for weights in (None, [1, 2, 3]):
        model.set_loss_weights(weights)
        torch.testing.assert_close(model(tokens, shift_labels=shifted).loss, model(tokens, labels=tokens).loss)


@pytest.mark.parametrize("weights", [None, [1, 2, 3]])
def test_the_trainer_evaluates(weights: list[float] | None, tmp_path: Path) -> None:
    """With the loss of the model, and with logits and labels for metrics."""
    model, tokens = small_model().to(torch.float32).eval(), random_tokens(4, 8)
    model.set_loss_weights(weights)
    # transformers 4 counts labels of first tokens, which nothing predicts.
    labels = tokens.index_fill(1, torch.tensor([0]), -100)
    rows = [{"input_ids": row, "labels": of_row} for row, of_row in zip(tokens, labels, strict=True)]
    with torch.no_grad():
        expected = model(tokens, labels=labels)

    def metrics(found: EvalPrediction) -> dict[str, float]:
        torch.testing.assert_close(torch.tensor(found.predictions), expected.logits)
        return {"labels": float((found.label_ids == labels.numpy()).mean())}

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=4)
    trainer = Trainer(model, arguments, eval_dataset=rows, compute_metrics=metrics)
    found = trainer.evaluate()
    assert found["eval_labels"] == 1.0
    assert found["eval_loss"] == pytest.approx(expected.loss.item(), rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_tied_embeddings_are_one_parameter_per_chain(tied: bool) -> None:
    model = small_model(tie_word_embeddings=tied)
    pairs = zip(model.lm_head.chains, model.model.embed_tokens.chains, strict=True)
    assert all((head.weight is embedding.weight) == tied for head, embedding in pairs)


def test_sharded_parameters_train_like_whole_ones(tmp_path: Path) -> None:
    """FSDP2 on two processes; the frozen chain keeps its bits. The checkpoint is that of a model of our own class."""
    # `timeout` lets torchrun end its workers.
    command = ["timeout", "300", sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    paths = os.pathsep.join(str(ROOT / "python" / folder) for folder in ("src", "tests"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command += [str(ROOT / "python" / "tests" / "fsdp2.py"), str(tmp_path / "trained.pt")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for air, trained in torch.load(tmp_path / "trained.pt").items():
        model = prepared(air)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        steps(model, slice(None))
        for name, value in model.named_parameters():
            torch.testing.assert_close(trained[name], value.detach(), rtol=0, atol=1e-12, msg=name)
            assert torch.equal(trained[name], before[name]) == (colm.chain_of(name) == 0), name
        saved, whole = tmp_path / ("air" if air else "colm"), tmp_path / "whole"
        model.save_pretrained(whole)
        for file in (*whole.glob("*.py"), whole / "config.json"):
            assert (saved / file.name).read_bytes() == file.read_bytes(), file.name
        assert {path.name for path in saved.iterdir()} == {path.name for path in whole.iterdir()}
        loaded = dict(load(saved).named_parameters())
        assert all(torch.equal(loaded[name], trained[name]) for name in trained)

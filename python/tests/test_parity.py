"""The model against the golden cases and against a dense formulation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from cases import expected, golden_cases, load, random_tokens, small_model
from dense_reference import DenseReference, ExactRotation


def fields_of(case: Path) -> dict:
    return json.loads((case / "config.json").read_text())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_golden_logits_and_losses_in_float64(case: Path, attention: str) -> None:
    """With RoPE in float64 too. The expected logits are stored as F32, the losses in full."""
    model = load(case, attn_implementation=attention)
    model.model.rotary_emb = ExactRotation(fields_of(case))
    tokens, logits, losses = expected(case)
    assert len(logits) == len(model.config.chains)
    with torch.no_grad():
        every = model.logits_at_every_k(tokens)
        for k, (logits_k, loss) in enumerate(zip(logits, losses, strict=True), start=1):
            output = model(tokens, labels=tokens, chains=k)
            torch.testing.assert_close(output.logits[0].float(), logits_k, rtol=2e-7, atol=1e-9)
            torch.testing.assert_close(every[k - 1], output.logits, rtol=0, atol=1e-12)
            assert abs(output.loss.item() - loss) < 1e-12


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_golden_logits_in_float32(case: Path) -> None:
    """As users load it, with transformers' own RoPE."""
    model = load(case, torch.float32)
    tokens, logits, losses = expected(case)
    with torch.no_grad():
        for k, (logits_k, loss) in enumerate(zip(logits, losses, strict=True), start=1):
            output = model(tokens, labels=tokens, chains=k)
            torch.testing.assert_close(output.logits[0], logits_k, rtol=0, atol=2e-5)
            assert abs(output.loss.item() - loss) < 1e-5


VARIANTS = [
    {"air": False},
    {"air": True},
    {"air": False, "qk_norm": True, "attention_bias": True, "mlp_bias": True},
    {"air": True, "qk_norm": True, "attention_bias": True, "mlp_bias": True},
    {"air": False, "tie_word_embeddings": True},
    {"air": False, "chain_widths": {"num_attention_heads": [5, 2, 1]}},
    {"air": True, "chain_widths": {"hidden_size": [12, 8, 12], "num_attention_heads": [2, 4, 2]}},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_of_the_multi_chain_loss(variant: dict) -> None:
    """Autograd of a dense formulation gives the same gradient for every tensor."""
    model = small_model(**variant)
    fields = model.config.to_dict()
    model.model.rotary_emb = ExactRotation(fields)
    weights = [0.5, 1.0, 3.0]
    tokens = random_tokens(3, 11)
    model.set_loss_weights(weights)
    output = model(tokens, labels=tokens)
    output.loss.backward()

    tied = fields["tie_word_embeddings"]
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    assert any(name.startswith("lm_head") for name in leaves) != tied
    reference = DenseReference(fields)
    logits = [reference.logits(leaves, row) for row in tokens]
    losses = [cross_entropy(torch.cat([row[k][:-1] for row in logits]), tokens[:, 1:].flatten()) for k in range(3)]
    loss = (torch.stack(losses) * torch.tensor(weights)).sum() / sum(weights)
    loss.backward()

    torch.testing.assert_close(output.loss, loss, rtol=0, atol=1e-12)
    torch.testing.assert_close(output.chain_losses, torch.stack(losses).detach(), rtol=0, atol=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-9, atol=1e-12, msg=name)


def test_a_directional_derivative_of_the_multi_chain_loss() -> None:
    """Finite differences, which know nothing of autograd."""
    model = small_model(air=True)
    model.set_loss_weights([1, 2, 3])
    tokens = random_tokens(2, 9)
    model(tokens, labels=tokens).loss.backward()
    generator = torch.Generator().manual_seed(5)
    parameters = list(model.parameters())
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = torch.stack([(p.grad * d).sum() for p, d in zip(parameters, direction, strict=True)]).sum()

    def loss_at(step: float) -> torch.Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            loss = model(tokens, labels=tokens).loss
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=step)
        return loss

    step = 1e-5
    torch.testing.assert_close((loss_at(step) - loss_at(-step)) / (2 * step), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("air", [False, True])
def test_chains_after_k_are_not_read(air: bool) -> None:
    """NaN in every weight of chain 3 changes nothing at k = 2."""
    model, tokens = small_model(air), random_tokens(2, 7)
    with torch.no_grad():
        before = model(tokens, chains=2).logits
        for name, parameter in model.named_parameters():
            if ".chains.2." in name:
                parameter.fill_(torch.nan)
        assert torch.equal(model(tokens, chains=2).logits, before)
        assert model(tokens).logits.isnan().all()


def test_one_chain_is_a_llama() -> None:
    """Bit for bit, in transformers' own implementation and in bfloat16 as well."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = small_model(chains=[1], num_key_value_heads=2, rms_norm_eps=1e-5).to(torch.float32)
    fields = {name: getattr(model.config, name) for name in ("vocab_size", "hidden_size", "intermediate_size")}
    config = LlamaConfig(
        **fields, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5
    )
    llama = LlamaForCausalLM(config)
    llama.load_state_dict({name.replace(".chains.0", ""): value for name, value in model.state_dict().items()})
    tokens = random_tokens(2, 16)
    for dtype in (torch.float32, torch.bfloat16):
        model, llama = model.to(dtype).eval(), llama.to(dtype).eval()
        with torch.no_grad():
            assert torch.equal(model(tokens).logits, llama(tokens).logits)


def test_set_chains_and_wrong_chain_counts() -> None:
    model, tokens = small_model(), random_tokens(1, 5)
    model.set_chains(2)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, model(tokens, chains=2).logits)
        assert model(tokens, chains=3).logits.ne(model(tokens).logits).any()
        assert model.model(tokens).last_hidden_state.shape[-1] == 24
    wrong: list[Any] = [0, 4, 1.0, "2"]
    for chains in wrong:
        with pytest.raises(ValueError, match=f"chains = {chains!r}: the model has 3"):
            model.set_chains(chains)


def test_hidden_states_and_attentions() -> None:
    model, tokens = small_model(attn_implementation="eager").eval(), random_tokens(2, 5)
    output = model(tokens, chains=2, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, 5, 24)] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 6, 5, 5)] * 2
    embeddings = torch.cat(model.model.embed_tokens(tokens), dim=-1)
    again = model(inputs_embeds=embeddings, chains=2, return_dict=False)
    assert torch.equal(again[0], output.logits)

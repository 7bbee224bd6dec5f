"""generate() with and without a cache, with padding, and at several chain counts."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

import colm
from cases import random_tokens, small_model


def greedy(model: colm.ColmForCausalLM, tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    kwargs = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **kwargs}
    return model.generate(tokens, **kwargs)[:, tokens.shape[1] :]


@pytest.fixture(params=[False, True], ids=["colm", "air"])
def model(request: pytest.FixtureRequest) -> colm.ColmForCausalLM:
    return small_model(request.param, qk_norm=True).eval()


def test_with_cache_equals_without(model: colm.ColmForCausalLM) -> None:
    tokens = random_tokens(2, 6)
    answers = [greedy(model, tokens, chains=k, use_cache=False) for k in (1, 2, 3)]
    for k, answer in enumerate(answers, start=1):
        assert torch.equal(greedy(model, tokens, chains=k), answer)
    assert len({tuple(answer.flatten().tolist()) for answer in answers}) == 3, "the models at different k differ"


def test_logits_of_a_continuation_with_cache(model: colm.ColmForCausalLM) -> None:
    """Prefill, one token, then three tokens at once."""
    tokens = random_tokens(2, 10)
    with torch.no_grad():
        whole = model(tokens, chains=2).logits
        cache, parts = DynamicCache(config=model.config), []
        for start, end in ((0, 6), (6, 7), (7, 10)):
            parts.append(model(tokens[:, start:end], past_key_values=cache, use_cache=True, chains=2).logits)
    assert cache.get_seq_length() == 10
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_batch_with_left_padding_equals_solo(attention: str, model: colm.ColmForCausalLM) -> None:
    model.set_attn_implementation(attention)
    model.set_chains(2)
    prompts = [random_tokens(1, length, seed=length) for length in (3, 8, 5)]
    width = max(prompt.shape[1] for prompt in prompts)
    padded = torch.cat([torch.nn.functional.pad(prompt, (width - prompt.shape[1], 0)) for prompt in prompts])
    mask = (padded != 0).long()
    together = greedy(model, padded, attention_mask=mask)
    for row, prompt in zip(together, prompts, strict=True):
        assert torch.equal(row, greedy(model, prompt)[0])


def test_the_cache_of_colm_belongs_to_one_chain_count_and_that_of_air_to_all() -> None:
    tokens = random_tokens(1, 6)
    for air in (False, True):
        model = small_model(air).eval()
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(tokens[:, :4], past_key_values=cache, use_cache=True, chains=1)
            if air:
                logits = model(tokens[:, 4:], past_key_values=cache, use_cache=True, chains=3).logits
                whole = model(tokens, chains=3).logits
                torch.testing.assert_close(logits, whole[:, 4:], rtol=0, atol=1e-5)
            else:
                with pytest.raises(ValueError, match="chains = 3: the cache holds 2 key/value heads per layer; exp"):
                    model(tokens[:, 4:], past_key_values=cache, use_cache=True, chains=3)


def test_beams_and_a_static_cache(model: colm.ColmForCausalLM) -> None:
    tokens = random_tokens(2, 6)
    beams = [greedy(model, tokens, num_beams=3, use_cache=use_cache) for use_cache in (False, True)]
    assert torch.equal(*beams)
    static = greedy(model, tokens, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, greedy(model, tokens))


def test_logits_to_keep(model: colm.ColmForCausalLM) -> None:
    tokens = random_tokens(2, 6)
    with torch.no_grad():
        whole = model(tokens).logits
        torch.testing.assert_close(model(tokens, logits_to_keep=2).logits, whole[:, -2:])
        kept = model(tokens, logits_to_keep=torch.tensor([0, 3])).logits
        torch.testing.assert_close(kept, whole[:, [0, 3]])

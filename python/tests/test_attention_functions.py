"""What the attention functions of transformers get, seen by functions in their place."""

from typing import Any

import pytest
import torch
from transformers import DataCollatorWithFlattening
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import repeat_kv

from cases import random_tokens, small_model


def by_documents(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    position_ids: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention without a mask, in which a document begins wherever the positions begin again: flash attention's."""
    assert attention_mask is None
    documents = (position_ids[0] == 0).cumsum(0)
    seen = (documents[:, None] == documents).tril()
    groups = module.num_key_value_groups
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    return mixed.transpose(1, 2), None


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("air", [False, True])
def test_documents_of_a_packed_sequence_do_not_see_each_other(
    air: bool, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(air)
    documents = [random_tokens(1, length, seed=length) for length in (3, 5, 4)]
    with torch.no_grad():
        expected = torch.cat([model(document).logits for document in documents], dim=1)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "stand-in", by_documents)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "stand-in", lambda *_args, **_kwargs: None)
    model.config._attn_implementation = "stand-in"
    if checkpointing:
        model.train().gradient_checkpointing_enable()
    batch = DataCollatorWithFlattening()([{"input_ids": document[0].tolist()} for document in documents])
    found = model(**batch)
    torch.testing.assert_close(found.logits.detach(), expected, rtol=0, atol=1e-12)
    found.loss.backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flash_attention_in_other_dtypes_is_refused(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason. In half precision, or with autocast, it is called."""
    called = []

    def recording(module: torch.nn.Module, query: torch.Tensor, *_args: Any, **_kwargs: Any) -> tuple:
        called.append(query.dtype)
        return query.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", recording)
    model, tokens = small_model().to(dtype), random_tokens(1, 5)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match=f"'flash_attention_2' with queries in {dtype}; expected bfloat16 or float16"):
        model(tokens)
    assert not called
    model.to(torch.bfloat16)(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        model.to(torch.float32)(tokens)
    assert len(called) == 2 * 2 * 3, "two runs, two layers, three chains"

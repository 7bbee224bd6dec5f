"""What differs between the supported versions of transformers (4.57 and 5)."""

import inspect
from dataclasses import fields
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

_MASK_PARAMETERS = inspect.signature(create_causal_mask).parameters

#: The name of the key/value cache in arguments and outputs.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


def cache_positions(cache: Any, length: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The places of ``length`` new tokens in the cache, which version 4 asks for; version 5 knows them itself."""
    if "cache_position" not in _MASK_PARAMETERS:
        return {}
    start = 0 if cache is None else cache.get_seq_length()
    return {"cache_position": torch.arange(length, device=device) + start}


def updated_cache(
    cache: Any, key: torch.Tensor, value: torch.Tensor, layer: int, positions: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and values of all positions so far, with the new ones at ``positions``."""
    return cache.update(key, value, layer, *([positions] if positions else []))


def causal_mask(
    config: PretrainedConfig,
    embeddings: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cache: Any,
    position_ids: torch.Tensor,
    positions: dict[str, torch.Tensor],
) -> Any:
    """The causal mask in the form that the config's attention implementation takes.

    ``embeddings`` gives batch size, length, dtype and device. ``attention_mask`` has a 0 for each padded position.
    ``positions`` are those of `cache_positions`.
    """
    arguments = {
        "config": config,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        "inputs_embeds" if "inputs_embeds" in _MASK_PARAMETERS else "input_embeds": embeddings,
        "cache" if "cache" in _MASK_PARAMETERS else "past_key_values": cache,
        **positions,
    }
    return create_causal_mask(**arguments)


def set_rope(config: PretrainedConfig, rope: dict[str, Any]) -> None:
    """Sets RoPE's fields of ``config`` in the form of the installed version. ``rope`` is the form of transformers 5."""
    if isinstance(getattr(PretrainedConfig, "rope_scaling", None), property):
        config.rope_parameters = dict(rope)
        return
    rescaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    config.rope_theta = rope["rope_theta"]
    config.rope_scaling = None if rescaling["rope_type"] == "default" else rescaling


def cached_heads(cache: Any) -> int | None:
    """The number of key/value heads per layer that ``cache`` holds; None if it is empty."""
    layers = getattr(cache, "layers", None)
    keys = getattr(layers[0], "keys", None) if layers else None
    return None if keys is None or keys.numel() == 0 else keys.shape[1]

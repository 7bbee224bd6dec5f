"""Which parameters belong to a chain, and freezing them."""

import re
from collections.abc import Iterable, Iterator

from torch import nn
from transformers import PreTrainedModel

_CHAIN = re.compile(r"(?:^|\.)chains\.(\d+)\.")


def chain_of(name: str) -> int:
    """The chain, counted from 0 as in tensor names, that owns the parameter ``name``."""
    found = _CHAIN.search(name)
    if found is None:
        raise ValueError(f"{name} belongs to no chain; expected `chains.{{i}}` in its name")
    return int(found[1])


def chain_parameters(model: nn.Module, chain: int) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of one chain, counted from 0, with their names."""
    for name, parameter in model.named_parameters():
        if chain_of(name) == chain:
            yield name, parameter


def freeze_chains(model: nn.Module, chains: Iterable[int]) -> None:
    """Freezes the given chains, counted from 0: ``freeze_chains(model, range(1))`` freezes the first.

    Frozen chains stay the same, bit for bit. The chains before the first trained one also cost no backward pass.
    """
    chains = set(chains)
    present = {chain_of(name) for name, _ in model.named_parameters()}
    if not chains <= present:
        raise ValueError(f"chains {sorted(chains - present)}: the model has chains 0 to {max(present)}")
    for chain in chains:
        for _, parameter in chain_parameters(model, chain):
            parameter.requires_grad_(False)


def freeze_backbone(model: PreTrainedModel) -> None:
    """Freezes all parameters but those of the LM heads, which can then be trained for every chain count."""
    if model.config.tie_word_embeddings:
        raise ValueError("tie_word_embeddings = true: the heads are the embeddings; expected heads of their own")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("lm_head."))

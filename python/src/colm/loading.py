"""Checks that a checkpoint has the tensors of the model."""

from collections.abc import Iterable
from typing import Any


def check_tensors(missing: Iterable[str], unexpected: Iterable[str], is_backbone: bool) -> None:
    """Raises a ValueError if tensors of the model are missing or unknown ones are there.

    Without this, transformers fills missing tensors with random numbers. The backbone alone may be loaded from the
    checkpoint of a language model.
    """
    missing, unexpected = sorted(missing), sorted(unexpected)
    if is_backbone:
        unexpected = [name for name in unexpected if not name.startswith("lm_head.")]
    if not missing and not unexpected:
        return
    if unexpected and not any(".chains." in name for name in unexpected):
        raise ValueError(
            f"the checkpoint has tensors of the dense layout, such as {unexpected[0]}; expected the chain layout, "
            "which `colm-convert pack` writes"
        )
    raise ValueError(f"the checkpoint misses {_listed(missing)} and has unknown {_listed(unexpected)}")


def check_tied(model: Any) -> None:
    """Raises a ValueError if a head has weights of its own that config.json says are those of the embedding.

    Without this, transformers keeps both, and writes a checkpoint that is no CoLM.
    """
    if not model.config.tie_word_embeddings or not hasattr(model, "lm_head"):
        return
    pairs = zip(model.lm_head.chains, model.model.embed_tokens.chains, strict=True)
    for i, (head, embedding) in enumerate(pairs):
        if head.weight is not embedding.weight:
            raise ValueError(
                f"the checkpoint has lm_head.chains.{i}.weight, and config.json has tie_word_embeddings = true; "
                "expected one of them"
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} tensors" + (f" ({shown}{', ..' if len(names) > 5 else ''})" if names else "")

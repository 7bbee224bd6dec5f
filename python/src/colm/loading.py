"""Checks that a checkpoint has the tensors of the model."""

from collections.abc import Iterable


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


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} tensors" + (f" ({shown}{', ..' if len(names) > 5 else ''})" if names else "")

"""How widths are split over the chains (docs/spec.md#chains)."""

from collections.abc import Mapping, Sequence
from typing import Any

#: The most chains of a model, as in the engine.
MAX_CHAINS = 256

#: The widths that are split.
SPLIT_FIELDS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an int. JSON's true and false are ints in Python, but not here."""
    return isinstance(value, int) and not isinstance(value, bool)


def refused(field: str, value: Any, expected: str) -> ValueError:
    """The error of a config field that breaks a rule."""
    return ValueError(f"config field {field} = {value!r}: {expected}")


def check_chains(chains: Any) -> list[int]:
    """The relative sizes of the chains, checked."""
    if not isinstance(chains, Sequence) or isinstance(chains, str) or not 1 <= len(chains) <= MAX_CHAINS:
        raise refused("chains", chains, f"expected a list of 1 to {MAX_CHAINS} whole numbers, one per chain")
    for i, size in enumerate(chains):
        if not is_whole(size) or size < 1:
            raise refused("chains", chains, f"chain {i + 1} has {size!r}; expected a whole number of at least 1")
    return list(chains)


def check_shares(chain_widths: Any) -> dict[str, list[int]]:
    """The field ``chain_widths``, checked as far as it concerns names and types."""
    if chain_widths is None:
        return {}
    if not isinstance(chain_widths, Mapping):
        raise refused("chain_widths", chain_widths, "expected a map from widths to their shares")
    for field, shares in chain_widths.items():
        if field not in SPLIT_FIELDS:
            raise refused(f"chain_widths.{field}", shares, f"no such width; expected one of {', '.join(SPLIT_FIELDS)}")
        if not isinstance(shares, Sequence) or not all(is_whole(share) for share in shares):
            raise refused(f"chain_widths.{field}", shares, "expected a list of whole numbers, one per chain")
    return {field: list(shares) for field, shares in chain_widths.items()}


def split(field: str, width: int, chains: Sequence[int], shares: Sequence[int] | None) -> tuple[int, ...]:
    """The share of every chain in ``width``: ``shares`` if given, else in proportion to ``chains``."""
    if shares is not None:
        _check_sum(field, width, chains, shares)
        for i, share in enumerate(shares):
            if share < 1:
                raise refused(f"chain_widths.{field}", list(shares), f"chain {i + 1} has {share}; expected at least 1")
        return tuple(shares)
    total = sum(chains)
    for i, size in enumerate(chains):
        if width * size % total:
            expected = f"chain {i + 1} would get {size}/{total} of it; expected a multiple of {total}, or chain_widths"
            raise refused(field, width, expected)
    return tuple(width * size // total for size in chains)


def all_in_first(field: str, width: int, chains: Sequence[int], shares: Sequence[int] | None) -> tuple[int, ...]:
    """Air's key/value heads: all of ``width`` in chain 1. ``shares`` may say so too."""
    expected = (width,) + (0,) * (len(chains) - 1)
    if shares is not None:
        _check_sum(field, width, chains, shares)
        if tuple(shares) != expected:
            reason = f"in CoLM-Air chain 1 owns all key/value heads; expected {list(expected)}"
            raise refused(f"chain_widths.{field}", list(shares), reason)
    return expected


def _check_sum(field: str, width: int, chains: Sequence[int], shares: Sequence[int]) -> None:
    if len(shares) != len(chains):
        raise refused(f"chain_widths.{field}", list(shares), f"expected {len(chains)} entries, one per chain")
    if sum(shares) != width:
        raise refused(f"chain_widths.{field}", list(shares), f"expected a sum of {field} = {width}")

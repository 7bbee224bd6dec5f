"""RoPE's fields of config.json: transformers 4 writes rope_theta and rope_scaling, transformers 5 rope_parameters."""

import math
from collections.abc import Mapping
from typing import Any

from .chain_widths import is_whole, refused

_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")
_ORIGINAL = "original_max_position_embeddings"


def rope_parameters_of(rope_theta: Any, rope_scaling: Any, rope_parameters: Any) -> dict[str, Any]:
    """The three fields as one map in the form of transformers 5, checked.

    Where two fields say the same thing, they must agree.
    """
    theta, rescaling, name = rope_theta, rope_scaling, "rope_scaling"
    if rope_parameters:
        if not isinstance(rope_parameters, Mapping):
            raise refused("rope_parameters", rope_parameters, "expected a map")
        rest = dict(rope_parameters)
        fraction = rest.pop("partial_rotary_factor", None)
        if fraction not in (None, 1):
            raise refused("rope_parameters.partial_rotary_factor", fraction, "CoLM rotates whole heads; expected 1")
        inner = rest.pop("rope_theta", None)
        if theta is not None and inner is not None and theta != inner:
            raise refused("rope_theta", theta, f"rope_parameters says {inner}; expected the same")
        theta = inner if theta is None else theta
        if rescaling and _with_type(rescaling, name) != _with_type(rest, "rope_parameters"):
            raise refused(name, rescaling, f"rope_parameters says {rest}; expected the same")
        rescaling, name = rest, "rope_parameters"
    theta = _positive("rope_theta", 10000.0 if theta is None else theta)
    return {"rope_theta": theta, **_rescaling(_with_type(rescaling or {}, name), name)}


def _with_type(rescaling: Any, name: str) -> dict[str, Any]:
    """The rescaling with its type as ``rope_type``; older files call it ``type``."""
    if not isinstance(rescaling, Mapping):
        raise refused(name, rescaling, "expected a map, or null")
    rescaling = {key: value for key, value in rescaling.items() if key != "rope_theta"}
    older = rescaling.pop("type", None)
    kind = rescaling.setdefault("rope_type", older or "default")
    if older not in (None, kind):
        raise refused(f"{name}.type", older, f"rope_type is {kind!r}; expected the same")
    return rescaling


def _rescaling(rescaling: dict[str, Any], name: str) -> dict[str, Any]:
    kind = rescaling["rope_type"]
    if kind == "default":
        return {"rope_type": "default"}
    if kind != "llama3":
        raise refused(f"{name}.rope_type", kind, 'expected "llama3" or "default"')
    checked = {field: _positive(f"{name}.{field}", rescaling.get(field)) for field in _LLAMA3}
    if checked["high_freq_factor"] <= checked["low_freq_factor"]:
        expected = f"expected more than low_freq_factor = {checked['low_freq_factor']}"
        raise refused(f"{name}.high_freq_factor", checked["high_freq_factor"], expected)
    original = rescaling.get(_ORIGINAL)
    if original is None or not is_whole(original) or original < 1:
        raise refused(f"{name}.{_ORIGINAL}", original, "expected a whole number of at least 1")
    return {"rope_type": "llama3", **checked, _ORIGINAL: original}


def _positive(field: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise refused(field, value, "expected a positive number")
    return float(value)

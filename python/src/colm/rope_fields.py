"""RoPE's fields of config.json: transformers 4 writes rope_theta and rope_scaling, transformers 5 rope_parameters.

The engine has the same rules (checkpoint/src/config/rope_fields.rs).
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from .chain_widths import is_whole, refused

_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")
_ORIGINAL = "original_max_position_embeddings"
_PARTIAL = "partial_rotary_factor"


def rope_parameters_of(
    rope_theta: Any, rope_scaling: Any, rope_parameters: Any, partial_rotary_factor: Any = None
) -> dict[str, Any]:
    """The four fields as one map in the form of transformers 5, checked.

    Where two fields say the same thing, they must agree.
    """
    _check_whole_heads(_PARTIAL, partial_rotary_factor)
    theta = None if rope_theta is None else _positive("rope_theta", rope_theta)
    theta, scaling = _without_base("rope_scaling", rope_scaling, theta)
    theta, parameters = _without_base("rope_parameters", rope_parameters, theta)
    name, rescaling = "rope_scaling", scaling
    if parameters is not None:
        if "type" not in parameters and "rope_type" not in parameters:
            parameters["rope_type"] = "default"
        if scaling is not None and not _same(scaling, parameters):
            raise refused("rope_scaling", scaling, f"rope_parameters says {parameters}; expected the same")
        name, rescaling = ("rope_parameters" if scaling is None else "rope_scaling"), parameters
    checked = {"rope_type": "default"} if rescaling is None else _rescaling(_with_type(rescaling, name), name)
    return {"rope_theta": 10000.0 if theta is None else theta, **checked}


def _without_base(name: str, written: Any, theta: float | None) -> tuple[float | None, dict[str, Any] | None]:
    """The base, and the rest of the map ``name``; ``theta`` is the base that was found before."""
    if written is None:
        return theta, None
    if not isinstance(written, Mapping):
        raise refused(name, written, "expected a map, or null")
    rest = dict(written)
    if any(isinstance(value, Mapping) for value in rest.values()):
        expected = "CoLM has one RoPE for all layers; expected rope_theta and rope_type directly in it"
        raise refused(name, written, expected)
    _check_whole_heads(f"{name}.{_PARTIAL}", rest.pop(_PARTIAL, None))
    base = rest.pop("rope_theta", None)
    if base is None:
        return theta, rest
    base = _positive(f"{name}.rope_theta", base)
    if theta not in (None, base):
        raise refused("rope_theta", theta, f"{name} says {base}; expected the same")
    return base, rest


def _check_whole_heads(field: str, fraction: Any) -> None:
    if fraction is not None and (isinstance(fraction, bool) or fraction != 1):
        raise refused(field, fraction, "CoLM rotates whole heads; expected 1.0 or no such field")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON. In Python, 1 and true are equal."""
    return json.dumps(one, sort_keys=True, default=repr) == json.dumps(other, sort_keys=True, default=repr)


def _with_type(rescaling: dict[str, Any], name: str) -> dict[str, Any]:
    """The rescaling with its type as ``rope_type``; older files call it ``type``."""
    rescaling = dict(rescaling)
    if "type" in rescaling:
        older = rescaling.pop("type")
        kind = rescaling.setdefault("rope_type", older)
        if older != kind:
            raise refused(f"{name}.type", older, f"rope_type is {kind!r}; expected the same")
    return rescaling


def _rescaling(rescaling: dict[str, Any], name: str) -> dict[str, Any]:
    kind = rescaling.get("rope_type")
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

"""Configs: what they accept, refuse and write."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

import colm
from cases import GOLDEN, golden_cases, small_config

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"chains": None}, r"chains = None: expected a list of 1 to 256 whole numbers, one per chain"),
    ({"chains": []}, r"chains = \[\]: expected a list of 1 to 256"),
    ({"chains": [1, 0, 1]}, r"chains = \[1, 0, 1\]: chain 2 has 0; expected a whole number of at least 1"),
    ({"chains": [1, True, 1]}, "chain 2 has True"),
    ({"chains": [1, 1, 1]}, "hidden_size = 32: chain 1 would get 1/3 of it; expected a multiple of 3"),
    ({"num_attention_heads": 6}, "num_attention_heads = 6: chain 2 would get 1/4 of it"),
    ({"head_dim": 7}, "head_dim = 7: RoPE rotates halves; expected an even number"),
    ({"head_dim": None, "hidden_size": 36}, "hidden_size = 36: expected a multiple of num_attention_heads = 8"),
    ({"num_hidden_layers": 0}, "num_hidden_layers = 0: expected a whole number of at least 1"),
    ({"rms_norm_eps": 0.0}, "rms_norm_eps = 0.0: expected a positive number"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu': only \"silu\""),
    ({"architectures": ["LlamaForCausalLM"]}, r"architectures = \['LlamaForCausalLM'\]: model_type 'colm'"),
    ({"chain_widths": {"hidden": [1]}}, "chain_widths.hidden = .*: no such width; expected one of hidden_size"),
    ({"chain_widths": {"hidden_size": [16, 16]}}, r"hidden_size = \[16, 16\]: expected 3 entries, one per chain"),
    ({"chain_widths": {"hidden_size": [16, 8, 4]}}, "expected a sum of hidden_size = 32"),
    ({"chain_widths": {"hidden_size": [24, 8, 0]}}, "chain 3 has 0; expected at least 1"),
    ({"rope_theta": -1.0}, "rope_theta = -1.0: expected a positive number"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.rope_type = 'yarn': expected \"llama3\""),
    ({"rope_parameters": {"rope_type": "linear"}}, "rope_parameters.rope_type = 'linear': expected"),
    ({"rope_scaling": {**LLAMA3, "type": "default"}}, "rope_scaling.type = 'default': rope_type is 'llama3'"),
    ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor = 1.0: expected more than low_freq"),
    ({"rope_scaling": {**LLAMA3, "factor": None}}, "rope_scaling.factor = None: expected a positive number"),
    ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}, "rope_theta = 5.0: rope_parameters says 6.0"),
    ({"rope_theta": 5.0, "rope_scaling": {"rope_type": "default", "rope_theta": 6.0}}, "rope_scaling says 6.0"),
]

# The rows of checkpoint/tests/config_rope.rs, which the engine refuses.
PLAIN = {"rope_type": "default"}
HALF = {**PLAIN, "partial_rotary_factor": 0.5}
WHOLE_HEADS = "partial_rotary_factor = 0.5: CoLM rotates whole heads; expected 1.0 or no such field"
ONE_ROPE = "CoLM has one RoPE for all layers"
WITH_BASE = {**PLAIN, "rope_theta": 5e5}
WITHOUT_TYPE = 'rope_scaling.rope_type = None: expected "llama3" or "default"'
REFUSED += [
    *(
        ({"rope_scaling": {**LLAMA3, field: bad}}, f"rope_scaling.{field} = {bad!r}: expected")
        for field in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        for bad in (None, 0, -1, "8", False)
    ),
    ({"rope_scaling": {**LLAMA3, "high_freq_factor": 0.5}}, "expected more than low_freq_factor = 1.0"),
    ({"rope_scaling": {"factor": 2.0}}, WITHOUT_TYPE),
    ({"rope_scaling": {"rope_theta": 5e5}}, WITHOUT_TYPE),
    ({"rope_scaling": {}}, WITHOUT_TYPE),
    ({"rope_scaling": {"type": None}}, WITHOUT_TYPE),
    ({"rope_scaling": []}, r"rope_scaling = \[\]: expected a map, or null"),
    ({"rope_parameters": []}, r"rope_parameters = \[\]: expected a map, or null"),
    ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}, "rope_parameters says 500000.0; expected the same"),
    ({"rope_parameters": {"rope_theta": "x"}}, "rope_parameters.rope_theta = 'x': expected a positive number"),
    ({"rope_theta": 1.0, "rope_scaling": {**PLAIN, "rope_theta": True}}, "rope_scaling.rope_theta = True: expected"),
    ({"rope_scaling": {**PLAIN, "rope_theta": -1}}, "rope_scaling.rope_theta = -1: expected a positive number"),
    ({"rope_theta": 1e4, "rope_scaling": WITH_BASE}, "rope_theta = 10000.0: rope_scaling says 500000.0"),
    ({"rope_scaling": WITH_BASE, "rope_parameters": {**PLAIN, "rope_theta": 1e4}}, "rope_parameters says 10000.0"),
    ({"rope_theta": 5e5, "rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type = 'yarn'"),
    ({"rope_parameters": {"full": {"rope_theta": 1}}}, ONE_ROPE),
    ({"rope_scaling": {"full": {"rope_theta": 1}}}, ONE_ROPE),
    ({"partial_rotary_factor": 0.5}, f"field {WHOLE_HEADS}"),
    ({"partial_rotary_factor": True}, "field partial_rotary_factor = True: CoLM rotates"),
    ({"rope_scaling": HALF}, f"rope_scaling.{WHOLE_HEADS}"),
    ({"rope_parameters": HALF}, f"rope_parameters.{WHOLE_HEADS}"),
    ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.factor = None"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": "8"}}, "rope_parameters.factor = '8'"),
    ({"rope_parameters": {"type": "yarn"}}, "rope_parameters.rope_type = 'yarn'"),
    ({"rope_parameters": {"type": "yarn", "rope_type": "default"}}, "rope_parameters.type = 'yarn': rope_type is"),
    ({"rope_parameters": {"rope_theta": -1}}, "rope_parameters.rope_theta = -1"),
    (
        {"rope_scaling": {"rope_type": "llama3"}, "rope_parameters": {"rope_type": "llama3"}},
        "rope_scaling.factor = None",
    ),
    (
        {"rope_scaling": LLAMA3, "rope_parameters": {**LLAMA3, "factor": 4.0}},
        "rope_parameters says .*; expected the same",
    ),
    ({"rope_scaling": LLAMA3, "rope_parameters": {}}, "rope_parameters says .*; expected the same"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_configs_that_break_a_rule_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config(**fields)


def test_air_has_all_key_value_heads_in_chain_1() -> None:
    config = small_config(air=True, chain_widths={"num_key_value_heads": [2, 0, 0]})
    assert config.split("num_key_value_heads") == (2, 0, 0)
    with pytest.raises(ValueError, match=r"chain 1 owns all key/value heads; expected \[2, 0, 0\]"):
        small_config(air=True, chain_widths={"num_key_value_heads": [1, 1, 0]})
    with pytest.raises(ValueError, match="chain 2 has 3; expected a multiple of the 2 key/value heads that it reads"):
        small_config(air=True, num_attention_heads=12, chain_widths={"num_attention_heads": [6, 3, 3]})


def test_query_heads_of_a_colm_may_be_any_number() -> None:
    config = small_config(chain_widths={"num_attention_heads": [5, 2, 1], "num_key_value_heads": [2, 1, 1]})
    assert config.split("num_attention_heads") == (5, 2, 1)


def test_the_widths_of_the_chains() -> None:
    config = AutoConfig.from_pretrained(GOLDEN / "air-widths")
    assert config.split("hidden_size") == (16, 6, 10)
    assert config.split("intermediate_size") == (16, 16, 16)
    assert config.split("num_attention_heads") == (1, 3, 2)
    assert config.split("num_key_value_heads") == (1, 0, 0)


def test_the_forms_of_rope_mean_the_same() -> None:
    """Those of transformers 4, with `type` or `rope_type`, and of transformers 5. Either map may hold the base."""
    older = {("type" if name == "rope_type" else name): value for name, value in LLAMA3.items()}
    forms: list[dict[str, Any]] = [
        {"rope_theta": 100.0, "rope_scaling": LLAMA3},
        {"rope_theta": 100.0, "rope_scaling": older},
        {"rope_parameters": {"rope_theta": 100.0, **LLAMA3}},
        {"rope_theta": 100, "rope_parameters": LLAMA3},
        {"rope_scaling": {"rope_theta": 100.0, **older}},
        {"rope_theta": 100, "rope_scaling": {"rope_theta": 100.0, **LLAMA3}, "partial_rotary_factor": 1},
        {"rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 100, **LLAMA3, "partial_rotary_factor": None}},
    ]
    written = [small_config(**form).to_json_string() for form in forms]
    assert len(set(written)) == 1
    assert "llama3" in written[0]


def test_the_default_type_of_rope_means_no_rescaling() -> None:
    """Whatever else the map says; transformers writes the type itself in rope_parameters."""
    forms: list[dict[str, Any]] = [
        {"rope_scaling": {"type": "default"}},
        {"rope_scaling": {"type": "default", "rope_type": "default"}},
        {"rope_scaling": {**PLAIN, "factor": 2.0}},
        {"rope_parameters": {**PLAIN, "rope_theta": 10000.0, "partial_rotary_factor": None}},
        {"rope_parameters": {}},
    ]
    assert {small_config(**form).to_json_string() for form in forms} == {small_config().to_json_string()}


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_a_saved_config_says_the_same(case: Path, tmp_path: Path) -> None:
    """With every field that docs/spec.md#config asks for, although transformers leaves out its own defaults."""
    config = AutoConfig.from_pretrained(case)
    config.save_pretrained(tmp_path)
    before = json.loads((case / "config.json").read_text())
    after = json.loads((tmp_path / "config.json").read_text())
    renamed = {"torch_dtype", "rope_theta", "rope_scaling"}
    assert {name: after.get(name) for name in before if name not in renamed} == {
        name: value for name, value in before.items() if name not in renamed
    }
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config)
    assert again.to_json_string() == config.to_json_string()


def test_the_config_of_a_saved_model_names_the_architecture_of_the_engine(tmp_path: Path) -> None:
    for config, name in [(small_config(), "CoLMForCausalLM"), (small_config(air=True), "CoLMAirForCausalLM")]:
        config.architectures = ["ColmForCausalLM"]  # as transformers sets it when it saves a model
        config.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [name]
        assert isinstance(AutoConfig.from_pretrained(tmp_path), colm.ColmConfig)

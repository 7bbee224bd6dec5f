"""The golden cases of this repository, and small random models."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import colm

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
SHIPPED = [ROOT / "models" / "tiny-colm", ROOT / "models" / "tiny-colm-air"]


def golden_cases() -> list[Path]:
    """The golden cases in the chain layout: all that have a config and an index."""
    cases = sorted(path.parent for path in GOLDEN.glob("*/model.safetensors.index.json"))
    assert len(cases) >= 15, cases
    return cases


def load(folder: Path, dtype: torch.dtype = torch.float64, **kwargs: Any) -> colm.ColmForCausalLM:
    """The model in ``folder``, ready for inference."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **kwargs).eval()


def expected(case: Path) -> tuple[torch.Tensor, list[torch.Tensor], list[float]]:
    """The tokens [1, length] of a golden case, and for k = 1, 2, .. the logits [length, vocab] and the loss."""
    values = json.loads((case / "expected.json").read_text())
    logits = load_file(case / "expected.safetensors")
    counts = range(1, len(values["nll"]) + 1)
    return (
        torch.tensor([values["tokens"]]),
        [logits[f"logits.{k}"] for k in counts],
        [values["nll"][str(k)] for k in counts],
    )


def small_config(air: bool = False, **fields: Any) -> colm.ColmConfig:
    """A config of three unequal chains."""
    config_class = colm.ColmAirConfig if air else colm.ColmConfig
    defaults = {
        "chains": [2, 1, 1],
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2 if air else 4,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    return config_class(**{**defaults, **fields})


def small_model(air: bool = False, seed: int = 0, **fields: Any) -> colm.ColmForCausalLM:
    """A model with random weights, biases and norms included, in float64."""
    torch.manual_seed(seed)
    config = small_config(air, **fields)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def random_tokens(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    """Token ids from 1, without the id 0 that ends a text."""
    return torch.randint(1, 61, (batch, length), generator=torch.Generator().manual_seed(seed))


def run_without_the_package(program: str, folder: Path) -> None:
    """Runs a Python program in ``folder``, in a process that cannot import colm."""
    check = """
try:
    import colm
except ImportError:
    pass
else:
    raise SystemExit("colm can be imported")
"""
    # Isolated, so that no PYTHONPATH leads to the package.
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", check + program]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

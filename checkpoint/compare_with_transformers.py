#!/usr/bin/env python3
"""Compares a converted checkpoint with Hugging Face transformers, logit by logit.

    colm-convert extract BIG LLAMA --chains 1 --as llama
    python3 checkpoint/compare_with_transformers.py LLAMA BIG --chains 1

or in the other direction, for a model from elsewhere:

    colm-convert pack TINY_LLAMA COLM
    python3 checkpoint/compare_with_transformers.py TINY_LLAMA COLM

The first folder is loaded by transformers, the second, a CoLM in the chain layout, by the float64 NumPy
model of tests/golden/make_golden.py, which shares no code with the Rust code of this repository. Both get the same
random tokens. The exit status is 1 if logits differ by more than --tolerance.

Needs numpy, torch, safetensors and transformers; not run by CI. Last run with torch 2.5.1 and transformers 4.46.3.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "golden"))
from make_golden import Model  # noqa: E402


def colm(folder):
    """The NumPy model of a folder in the chain layout."""
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    defaults = {
        "num_key_value_heads": heads,
        "head_dim": config["hidden_size"] // heads,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
    }
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    weights = {}
    for file in sorted(set(index["weight_map"].values())):
        # NumPy has no bfloat16.
        weights.update({name: tensor.double().numpy() for name, tensor in load_file(folder / file).items()})
    return Model({**defaults, **config}, weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("llama", type=Path, help="a folder that transformers loads")
    parser.add_argument("colm", type=Path, help="a CoLM folder in the chain layout")
    parser.add_argument("--chains", type=int, default=1, help="how many chains of it to compute")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()

    numpy_model = colm(args.colm)
    torch_model, info = AutoModelForCausalLM.from_pretrained(
        args.llama, torch_dtype=torch.float32, output_loading_info=True
    )
    missing = {kind: names for kind, names in info.items() if names}
    if missing:
        sys.exit(f"transformers does not load {args.llama} completely: {missing}")

    tokens = np.random.default_rng(0).integers(0, numpy_model.config["vocab_size"], args.tokens)
    expected = numpy_model.logits(list(tokens), args.chains)
    with torch.no_grad():
        found = torch_model.double()(torch.tensor(tokens)[None]).logits[0].double().numpy()

    difference = np.abs(found - expected).max()
    same_choice = int((found.argmax(1) == expected.argmax(1)).sum())
    print(
        f"{args.llama} against {args.colm} at {args.chains}: logits of {args.tokens} tokens differ by at most "
        f"{difference:.2e} (largest {np.abs(expected).max():.2f}); {same_choice} of {args.tokens} choices the same"
    )
    sys.exit(0 if difference <= args.tolerance else 1)


if __name__ == "__main__":
    main()

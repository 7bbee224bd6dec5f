#!/usr/bin/env python3
"""Golden checkpoints and their expected logits: docs/spec.md in float64 NumPy.

This implementation was written from docs/spec.md alone and shares no code with the engine: full T x T attention, no
KV cache, a Python loop over chains and heads. It writes to its own folder:

    <case>/config.json, model*.safetensors [, model.safetensors.index.json]   a checkpoint, weights F32
    <case>-paper/params.json, consolidated.safetensors   the same weights in the paper's own conventions
    <case>/expected.safetensors   `logits.{k}` [tokens, vocab] F32, for every k from 1 to n
    <case>/expected.json          `tokens`, and `nll`: k -> mean over the tokens after the first of
                                  -ln p(token | those before it), in nats
    gradients/<case>/config.json, model*.safetensors, model.safetensors.index.json
    gradients/<case>/expected.json          `tokens` of two sequences, for each token whether it is `predicted`, and
                                            `nll` as above: the mean over the predicted tokens
    gradients/<case>/gradients.safetensors  `{k}.{tensor}`, F32: the gradient of the nll at k chains with respect to
                                            each tensor of the first k chains
    tokenizer.json, tokenizer_config.json   one token per id of the vocabulary; id 0 ends a text

To regenerate the files (Python 3.9 or later, NumPy; seeds are fixed, so checkpoints stay the same):

    pip install numpy && python3 tests/golden/make_golden.py

Cases in the paper's conventions have a model of their own, PaperModel, which gives their logits. Both models must
agree.

Gradients are those of the same model in reverse mode. Along a random direction they agree with complex steps.

With --check nothing is written. The files on disk are compared with those that would be written (logits and
gradients within 1e-6), and the exit status is 1 if they differ.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

from cases import CASES, GRADIENT_CASES, TOKENS, VOCAB, common
from files import chain_layout, dense_layout, json_bytes, paper_tensors, params_of, safetensors_bytes
from gradient_case import gradient_case_files
from model import Model, mean_nll
from paper_model import PaperModel
from tokenizer import tokenizer_files
from weights import random_weights

HERE = Path(__file__).resolve().parent


def case_files(seed, layout, fields):
    config = {**fields, **{name: value for name, value in common().items() if name not in fields}}
    weights = random_weights(config, seed)
    tokens = [int(t) for t in np.random.default_rng(1000 + seed).integers(1, VOCAB, TOKENS)]
    model = Model(config, weights)
    n = len(config["chains"])
    logits = {k: model.logits(tokens, k) for k in range(1, n + 1)}
    if layout == "paper":
        params, tensors = params_of(config), paper_tensors(config, weights)
        paper = PaperModel(params, tensors)
        for k in logits:
            ours, logits[k] = logits[k], paper.logits(tokens, k)
            assert np.abs(ours - logits[k]).max() < 1e-12, np.abs(ours - logits[k]).max()
    expected = {"tokens": tokens, "nll": {str(k): mean_nll(logits[k], tokens) for k in logits}}
    if layout == "paper":
        files = {"params.json": json_bytes(params), "consolidated.safetensors": safetensors_bytes(tensors)}
    else:
        files = {"chains": chain_layout, "dense": dense_layout}[layout](config, weights)
        files["config.json"] = json_bytes(config)
    return {
        "expected.json": json_bytes(expected),
        "expected.safetensors": safetensors_bytes({f"logits.{k}": logits[k] for k in logits}),
        **files,
    }


def same(path, content):
    """Whether a file has this content. Logits and gradients may differ by the rounding on another CPU."""
    if not path.exists():
        return False
    found = path.read_bytes()
    if path.name == "expected.json":
        found, content = json.loads(found), json.loads(content)
        found_nll, nll = found.pop("nll"), content.pop("nll")
        close = all(abs(found_nll[k] - nll[k]) <= 1e-9 for k in nll)
        return found == content and close
    if path.name in ("expected.safetensors", "gradients.safetensors"):
        (found_header,), (header,) = struct.unpack_from("<Q", found), struct.unpack_from("<Q", content)
        start = 8 + header
        if found_header != header or found[:start] != content[:start] or len(found) != len(content):
            return False
        values = [np.frombuffer(data[start:], "<f4") for data in (found, content)]
        return bool(np.abs(values[0] - values[1]).max() <= 1e-6)
    return found == content


def main():
    files = dict(tokenizer_files())
    for name, case in CASES.items():
        files.update((f"{name}/{file}", content) for file, content in case_files(*case).items())
    for name, case in GRADIENT_CASES.items():
        own = gradient_case_files(*case)
        files.update((f"gradients/{name}/{file}", content) for file, content in own.items())
    if "--check" in sys.argv[1:]:
        differ = [file for file, content in files.items() if not same(HERE / file, content)]
        sys.exit("differ: " + ", ".join(differ) if differ else 0)
    for file, content in files.items():
        (HERE / file).parent.mkdir(parents=True, exist_ok=True)
        (HERE / file).write_bytes(content)
    print(f"{len(CASES) + len(GRADIENT_CASES)} cases, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()

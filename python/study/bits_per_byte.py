"""How well a model predicts held-out text."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import colm


def bits_per_byte(folder: Path, documents: list[str], length: int, device: str, most_tokens: int) -> list[float]:
    """Bits per byte of ``documents`` at every k, in windows of ``length`` tokens of which the first is not counted.

    Documents follow each other with an end token between them, as in training, up to ``most_tokens``.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    assert isinstance(model, colm.ColmForCausalLM)
    n = len(model.config.chains)
    windows = _windows(tokenizer, documents, length, most_tokens)
    # A token of a byte-level BPE has as many characters as bytes; the end token stands for none.
    sizes = torch.tensor([len(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    sizes[tokenizer.eos_token_id] = 0
    counted = int(sizes[windows[:, 1:]].sum())
    nats = torch.zeros(n, dtype=torch.float64)
    with torch.no_grad():
        for batch in windows.to(device).split(32):
            for k, logits in enumerate(model.logits_at_every_k(batch)):
                targets = batch[:, 1:].flatten()
                nats[k] += torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), targets, reduction="sum"
                ).cpu()
    return (nats / math.log(2) / counted).tolist()


def _windows(tokenizer: Any, documents: list[str], length: int, most_tokens: int) -> torch.Tensor:
    tokens: list[int] = []
    for document in documents:
        tokens += [*tokenizer(document, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(tokens) >= most_tokens:
            break
    count = min(len(tokens), most_tokens) // length
    return torch.tensor(tokens[: count * length]).view(count, length)

#!/usr/bin/env python3
"""Trains a CoLM on text files with the recipes of the paper (arXiv 2505.11820), on one process or several.

    python python/examples/train.py --model DIR --recipe joint --text *.txt --output_dir trained --max_steps 1000
    torchrun --nproc_per_node 8 python/examples/train.py --fsdp --bf16 ...   # FSDP2

DIR is a checkpoint in the chain layout with a tokenizer, or a folder with config.json and a tokenizer alone for random
initial weights. All arguments of transformers' TrainingArguments are flags. The result loads in `colm serve`.

Recipes:

    pretrain        the loss at k = n
    joint           the mean of the losses at every k (--loss_weights: weighted)
    elastic-heads   as joint, but the backbone is frozen and the heads alone are trained
    expansion       the loss at k = n with the first chain frozen, for a model from `colm-convert expand`
    chain-tuning    the loss at k = n with all chains but the last frozen
"""

import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

import colm

RECIPES = ("pretrain", "joint", "elastic-heads", "expansion", "chain-tuning")


@dataclass
class Recipe:
    """What is trained on what."""

    model: str = field(metadata={"help": "checkpoint, or a folder with config.json and a tokenizer"})
    recipe: str = field(metadata={"help": "one of " + ", ".join(RECIPES), "choices": RECIPES})
    text: list[str] | None = field(
        default=None,
        metadata={"help": "files in UTF-8: one document each, or JSON lines (.jsonl) with one in each field `text`"},
    )
    dataset: str | None = field(
        default=None,
        metadata={"help": "instead of --text: a data set with a column `text`, for the package `datasets`"},
    )
    length: int = field(default=1024, metadata={"help": "tokens per sequence"})
    loss_weights: list[float] | None = field(
        default=None, metadata={"help": "weights of the losses at 1, 2, .. n chains, for joint and elastic-heads"}
    )


class PackedText(Dataset):
    """Documents, each ended by the tokenizer's end token, joined and cut into sequences of equal length.

    The rest after the last full sequence is dropped.
    """

    def __init__(self, documents: Iterable[str], tokenizer: Any, length: int) -> None:
        tokens: array[int] = array("l")
        for batch in batches(documents, 1000):
            for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
                tokens.extend(ids)
                tokens.append(tokenizer.eos_token_id)
        count = len(tokens) // length
        if count == 0:
            raise ValueError(f"the text has {len(tokens)} tokens; expected at least --length {length}")
        self.sequences = torch.tensor(tokens[: count * length]).view(count, length)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.sequences[index], "labels": self.sequences[index]}


def documents(recipe: Recipe) -> Iterator[str]:
    """The documents of --text or --dataset."""
    if recipe.dataset is not None:
        from datasets import load_dataset  # Not everybody has it.

        yield from load_dataset(recipe.dataset, split="train")["text"]
    for name in recipe.text or ():
        with Path(name).open(encoding="utf-8") as file:
            if not name.endswith(".jsonl"):
                yield file.read()
                continue
            for number, line in enumerate(file, start=1):
                try:
                    text = json.loads(line)["text"]
                except (ValueError, TypeError, KeyError):
                    text = None
                if not isinstance(text, str):
                    raise ValueError(f"{name}, line {number}: expected an object with a string `text`")
                yield text


def batches(documents: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of ``size`` documents; the tokenizer encodes those of a list on all cores."""
    documents = iter(documents)
    while batch := list(islice(documents, size)):
        yield batch


class ChainTrainer(Trainer):
    """The Trainer, which also logs the loss at every k."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The loss of the model."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        self.chain_losses = outputs.get("chain_losses")
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the losses of this process's last batch."""
        losses = getattr(self, "chain_losses", None)
        if "loss" in logs and losses is not None:
            # With gradient accumulation each batch has its share of the mean.
            steps = self.args.gradient_accumulation_steps
            logs |= {f"loss_at_{k}": loss * steps for k, loss in enumerate(losses.tolist(), start=1)}
        super().log(logs, *args, **kwargs)


def load(folder: str) -> colm.ColmForCausalLM:
    """The checkpoint in ``folder``, in float32, or random weights if there are none."""
    if any(Path(folder).glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)


def apply(recipe: Recipe, model: colm.ColmForCausalLM) -> None:
    """Freezes what the recipe keeps, and sets the loss."""
    chains = len(model.config.chains)
    if recipe.recipe in ("joint", "elastic-heads"):
        model.set_loss_weights(recipe.loss_weights or [1.0] * chains)
    elif recipe.loss_weights is not None:
        raise ValueError(f"--loss_weights with --recipe {recipe.recipe}; expected joint or elastic-heads")
    if recipe.recipe in ("expansion", "chain-tuning") and chains == 1:
        raise ValueError(f"--recipe {recipe.recipe} on a model of one chain; expected several (`colm-convert expand`)")
    if recipe.recipe == "elastic-heads":
        colm.freeze_backbone(model)
    elif recipe.recipe == "expansion":
        colm.freeze_chains(model, range(1))
    elif recipe.recipe == "chain-tuning":
        colm.freeze_chains(model, range(chains - 1))


def main() -> None:
    """Trains, and writes model and tokenizer to --output_dir."""
    parser = HfArgumentParser([Recipe, TrainingArguments], description=__doc__.split("\n")[0])
    recipe, arguments = parser.parse_args_into_dataclasses()
    if arguments.fsdp and arguments.device.type == "cpu":
        sys.exit("--fsdp shards on GPUs; expected a GPU, or no --fsdp. Several processes on a CPU: --ddp_backend gloo")
    if (recipe.text is None) == (recipe.dataset is None):
        sys.exit("expected either --text or --dataset")
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    if tokenizer.eos_token_id is None:
        sys.exit(f"{recipe.model}: the tokenizer has no eos_token, which ends each document")
    torch.manual_seed(arguments.seed)
    model = load(recipe.model)
    apply(recipe, model)
    data = PackedText(documents(recipe), tokenizer, recipe.length)
    trainer = ChainTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        # Sequences have one length, so that a tokenizer without a padding token will do.
        data_collator=default_data_collator,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    trainer.save_model()


if __name__ == "__main__":
    main()

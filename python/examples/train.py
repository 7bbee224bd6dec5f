#!/usr/bin/env python3
"""Trains a CoLM on text files with the recipes of the paper (arXiv 2505.11820), on one process or several.

    python python/examples/train.py --model DIR --recipe joint --text *.txt --output_dir trained --max_steps 1000
    torchrun --nproc_per_node 8 python/examples/train.py --fsdp --bf16 ...   # FSDP2

DIR is a checkpoint in the chain layout with a tokenizer, a Hugging Face id of one, or a folder with config.json and a
tokenizer alone for random initial weights. The arguments of transformers' TrainingArguments are flags; those that would
change or bypass the loss of a recipe are refused. The result loads in `colm serve`.

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
from dataclasses import dataclass, field, fields
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
from transformers.trainer_utils import get_last_checkpoint

import colm

RECIPES = ("pretrain", "joint", "elastic-heads", "expansion", "chain-tuning")

#: The recipes that keep some weights as they are.
FREEZING = ("elastic-heads", "expansion", "chain-tuning")

NO_EVALUATION = "this script has no data to evaluate on"

#: Flags of the Trainer that do not go with the recipes, and why.
REFUSED = {
    "label_smoothing_factor": "the Trainer would replace the loss of the recipe, and not shift the labels",
    "neftune_noise_alpha": "the Trainer knows models with one embedding matrix only, and a CoLM has one for each chain",
    "use_liger_kernel": "liger has no kernels for CoLM",
    "eval_strategy": NO_EVALUATION,
    "eval_on_start": NO_EVALUATION,
    "do_eval": NO_EVALUATION,
    "do_predict": NO_EVALUATION,
}

#: Files that hold weights, say where they are, or are what an interrupted download leaves.
WEIGHT_FILES = (
    *(
        "*.safetensors*",
        "*.bin*",
        "*.pt",
        "*.pth",
        "*.ckpt*",
        "*.h5",
        "*.msgpack",
        "*.gguf",
        "*.distcp",
        "*.index.json",
    ),
    ".cache/huggingface/**/*.incomplete",
)


@dataclass
class Recipe:
    """What is trained on what."""

    model: str = field(
        metadata={"help": "checkpoint or its Hugging Face id, or a folder with config.json and a tokenizer"}
    )
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
            # Without a warning about documents longer than the context, which are cut.
            for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
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

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        """The loss of the model."""
        predicted = (inputs["labels"][..., 1:] != -100).sum()
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch, **kwargs
        )
        self.chain_losses = outputs.get("chain_losses")
        if self.chain_losses is not None and num_items_in_batch is not None:
            # They are sums, divided by the tokens of all batches that make a step, on all processes.
            self.chain_losses = self.chain_losses * num_items_in_batch / predicted
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the losses of the last batch, as the mean over the processes. Each of them calls this."""
        losses = getattr(self, "chain_losses", None)
        if "loss" in logs and losses is not None:
            losses = self.accelerator.reduce(losses, reduction="mean")
            logs |= {f"loss_at_{k}": loss for k, loss in enumerate(losses.tolist(), start=1)}
        super().log(logs, *args, **kwargs)


def check_flags(recipe: Recipe, arguments: TrainingArguments) -> None:
    """Refuses flags that would break a recipe or do nothing."""
    if (recipe.text is None) == (recipe.dataset is None):
        sys.exit("expected either --text or --dataset")
    defaults = {one.name: one.default for one in fields(TrainingArguments)}
    for name, reason in REFUSED.items():
        value = getattr(arguments, name, None)
        if name in defaults and value != defaults[name]:
            sys.exit(f"--{name} {getattr(value, 'value', value)}: {reason}; remove the flag")
    if arguments.fsdp and arguments.device.type == "cpu":
        sys.exit("--fsdp shards on GPUs; expected a GPU, or no --fsdp. Several processes on a CPU: --ddp_backend gloo")
    if arguments.n_gpu > 1:
        sys.exit(
            f"one process with {arguments.n_gpu} GPUs; expected one process for each (torchrun --nproc_per_node "
            f"{arguments.n_gpu} ..), or one GPU (CUDA_VISIBLE_DEVICES=0)"
        )


def checkpoint_to_resume(arguments: TrainingArguments) -> str | None:
    """The folder that --resume_from_checkpoint names; `true` is the last one in --output_dir."""
    given, output = arguments.resume_from_checkpoint, arguments.output_dir
    if given is None or str(given).lower() == "false":
        return None
    if str(given).lower() == "true":
        last = get_last_checkpoint(output) if Path(output).is_dir() else None
        if last is None:
            sys.exit(f"--resume_from_checkpoint {given}: expected a folder checkpoint-N in {output}")
        return last
    if not Path(given).is_dir():
        sys.exit(f"--resume_from_checkpoint {given}: no such folder; expected a folder, or true for the last one")
    return given


def read_config(recipe: Recipe, arguments: TrainingArguments) -> colm.ColmConfig:
    """The config of --model, which the recipe and the flags suit."""
    config = AutoConfig.from_pretrained(recipe.model)
    if not isinstance(config, colm.ColmConfig):
        sys.exit(
            f"{recipe.model}: model_type = {config.model_type!r}; expected colm or colm_air, which "
            "`colm-convert expand` makes of a Llama"
        )
    if arguments.fsdp and config.tie_word_embeddings:
        sys.exit(
            f"--fsdp with {recipe.model}: tie_word_embeddings = true, and FSDP2 would shard the embeddings of each "
            "chain apart from the heads that share them; expected heads of their own, or no --fsdp"
        )
    if recipe.recipe in FREEZING and is_without_weights(recipe.model):
        sys.exit(
            f"--recipe {recipe.recipe} would freeze random weights: {recipe.model} has no weight files; expected a "
            "checkpoint"
        )
    return config


def is_without_weights(model: str) -> bool:
    """Whether ``model`` is a folder with a config and no weights, not even such as cannot be read."""
    folder = Path(model)
    has_weights = any(next(folder.glob(pattern), None) for pattern in WEIGHT_FILES)
    return (folder / "config.json").is_file() and not has_weights


def load(model: str, config: colm.ColmConfig, is_main_process: bool) -> colm.ColmForCausalLM:
    """The checkpoint, in float32, or random weights if it is a folder without weights."""
    if not is_without_weights(model):
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if is_main_process:
        print(f"{model} has no weight files: the initial weights are random")
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


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
    check_flags(recipe, arguments)
    checkpoint = checkpoint_to_resume(arguments)
    config = read_config(recipe, arguments)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    if tokenizer.eos_token_id is None:
        sys.exit(f"{recipe.model}: the tokenizer has no eos_token, which ends each document")
    torch.manual_seed(arguments.seed)
    model = load(recipe.model, config, arguments.process_index == 0)
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
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    # Otherwise a thread of the process group may still hold tensors while Python exits, and abort the process.
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()

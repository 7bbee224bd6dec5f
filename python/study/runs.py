"""The models of the study, and what each is trained on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

#: The four chains of the CoLM that most questions are about.
FOUR = (8, 8, 8, 8)
TWO = (16, 16)
ONE = (32,)


@dataclass(frozen=True)
class Setting:
    """A TOML file of this folder: the size of the models, and how they are trained."""

    #: The hidden size of the Llama with which others are compared.
    hidden: int
    layers: int
    head_dim: int
    vocab_size: int
    #: Tokens per run, per step and per sequence.
    tokens: int
    batch_tokens: int
    length: int
    #: Flags for python/examples/train.py.
    flags: list[str]

    @classmethod
    def read(cls, file: Path) -> "Setting":
        """Reads ``file``."""
        return cls(**tomllib.loads(file.read_text()))


@dataclass(frozen=True)
class Shape:
    """The widths of a model."""

    chains: tuple[int, ...]
    hidden: int
    air: bool = False

    def config(self, setting: Setting) -> dict[str, Any]:
        """config.json."""
        heads = self.hidden // setting.head_dim
        return {
            "architectures": ["CoLMAirForCausalLM" if self.air else "CoLMForCausalLM"],
            "model_type": "colm_air" if self.air else "colm",
            "chains": list(self.chains),
            "vocab_size": setting.vocab_size,
            "hidden_size": self.hidden,
            "intermediate_size": self._intermediate(),
            "num_hidden_layers": setting.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // len(self.chains) if self.air else heads,
            "head_dim": setting.head_dim,
            "max_position_embeddings": max(1024, setting.length),
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "eos_token_id": 0,
        }

    def parameters(self, setting: Setting, k: int) -> int:
        """The parameters of the first k chains."""
        return setting.vocab_size * self._first(self.hidden, k) * 2 + self.backbone(setting, k)

    def multiplied(self, setting: Setting, k: int) -> int:
        """The parameters that a token is multiplied with: all but the embeddings and the norms."""
        return setting.vocab_size * self._first(self.hidden, k) + self.backbone(setting, k) - self._norms(setting, k)

    def backbone(self, setting: Setting, k: int) -> int:
        """The parameters of the layers and of the last norm."""
        kv = self.hidden // len(self.chains) if self.air else self.hidden
        hidden, inner = self._shares(self.hidden, k), self._shares(self._intermediate(), k)
        keys = [kv] if self.air else self._shares(kv, k)
        # A share of the outputs reads the inputs of its own chain and of those before.
        reads = [sum(hidden[: i + 1]) for i in range(k)]
        layer = 2 * sum(h * r for h, r in zip(hidden, reads, strict=True))
        layer += 2 * sum(h * r for h, r in zip(keys, reads, strict=False))
        layer += 2 * sum(h * r for h, r in zip(inner, reads, strict=True))
        layer += sum(h * sum(inner[: i + 1]) for i, h in enumerate(hidden))
        return setting.layers * layer + self._norms(setting, k)

    def _norms(self, setting: Setting, k: int) -> int:
        return (2 * setting.layers + 1) * self._first(self.hidden, k)

    def _intermediate(self) -> int:
        step = 8 * len(self.chains)
        return round(self.hidden * 8 / 3 / step) * step

    def _shares(self, width: int, k: int) -> list[int]:
        return [width * chain // sum(self.chains) for chain in self.chains[:k]]

    def _first(self, width: int, k: int) -> int:
        return sum(self._shares(width, k))


@dataclass(frozen=True)
class Run:
    """A model that is trained."""

    name: str
    shape: Shape
    recipe: str
    tokens: int
    #: The run whose result it begins with.
    start: str | None = None

    def multiply_adds(self, setting: Setting) -> int:
        """Those of all tokens: one per parameter forward, and two per trained parameter backward."""
        n = len(self.shape.chains)
        forward = self.shape.multiplied(setting, n)
        trained = forward
        if self.recipe == "expansion":
            trained -= self.shape.multiplied(setting, 1)
        if self.recipe == "elastic-heads":
            trained = setting.vocab_size * self.shape.hidden
        return self.tokens * (forward + 2 * trained)


def runs(setting: Setting) -> list[Run]:
    """All runs, in an order in which each begins after the one that it starts from."""
    tokens = setting.tokens
    llama = Shape(ONE, setting.hidden)
    size = llama.parameters(setting, 1)
    colm = _as_large(setting, FOUR, size)
    parts = [_as_large(setting, ONE, colm.parameters(setting, k)) for k in (1, 2)]
    half = parts[1]
    expanded = Run("expanded", Shape(TWO, 2 * half.hidden), "expansion", tokens // 2, "llama-k2")
    per_token = 3 * half.multiplied(setting, 1)
    longer = expanded.multiply_adds(setting) // per_token // setting.batch_tokens * setting.batch_tokens
    return [
        Run("llama", llama, "pretrain", tokens),
        Run("colm-8888", colm, "pretrain", tokens),
        Run("colm-8888-joint", colm, "joint", tokens),
        Run("air-8888-joint", Shape(FOUR, colm.hidden, air=True), "joint", tokens),
        Run("elastic-heads", colm, "elastic-heads", tokens // 4, "colm-8888"),
        Run("llama-k1", parts[0], "pretrain", tokens),
        Run("llama-k2", half, "pretrain", tokens),
        expanded,
        Run("trained-on", half, "pretrain", longer, "llama-k2"),
        Run("colm-1616", _as_large(setting, TWO, size), "pretrain", tokens),
        Run("colm-1616-narrow", Shape(TWO, setting.hidden), "pretrain", tokens),
        Run("colm-8888-narrow", Shape(FOUR, setting.hidden), "pretrain", tokens),
    ]


def _as_large(setting: Setting, chains: tuple[int, ...], parameters: int) -> Shape:
    """The shape with these chains whose parameters come nearest."""
    step = setting.head_dim * len(chains)
    shapes = [Shape(chains, step * heads) for heads in range(1, 1 + 4 * setting.hidden // step)]
    return min(shapes, key=lambda shape: abs(shape.parameters(setting, len(chains)) - parameters))


def write_config(shape: Shape, setting: Setting, folder: Path) -> None:
    """Writes config.json into ``folder``."""
    (folder / "config.json").write_text(json.dumps(shape.config(setting), indent=1))

"""The configs of CoLM and CoLM-Air (docs/spec.md#config)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import PretrainedConfig

from .chain_widths import SPLIT_FIELDS, all_in_first, check_chains, check_shares, is_whole, refused, split
from .rope_fields import rope_parameters_of
from .transformers_versions import set_rope


class ColmConfig(PretrainedConfig):
    """The config of a CoLM: Llama's fields, ``chains``, ``chain_widths`` and ``qk_norm``.

    A config that breaks a rule raises a ValueError that names the field, its value and what is expected. Chains count
    from 1 in messages.
    """

    model_type = "colm"
    # `chains` is required, so version 4 of transformers must not build a config without it.
    has_no_defaults_at_init = True
    #: The name in ``architectures``, by which the engine knows the model.
    architecture: ClassVar[str] = "CoLMForCausalLM"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache", "chain_states", "chain_losses"]

    def __init__(
        self,
        chains: Sequence[int] | None = None,
        chain_widths: Mapping[str, Sequence[int]] | None = None,
        vocab_size: int = 32000,
        hidden_size: int = 2048,
        intermediate_size: int = 5632,
        num_hidden_layers: int = 16,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 2048,
        rms_norm_eps: float = 1e-5,
        rope_theta: float | None = None,
        rope_scaling: dict[str, Any] | None = None,
        rope_parameters: dict[str, Any] | None = None,
        partial_rotary_factor: float | None = None,
        attention_bias: bool = False,
        mlp_bias: bool = False,
        qk_norm: bool = False,
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.chains = check_chains(chains)
        # An absent field stays absent in config.json.
        self.chain_widths = check_shares(chain_widths) or None
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        self.head_dim = self._default_head_dim() if head_dim is None else head_dim
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.attention_bias = attention_bias
        self.mlp_bias = mlp_bias
        self.qk_norm = qk_norm
        self.attention_dropout = attention_dropout
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        set_rope(self, rope_parameters_of(rope_theta, rope_scaling, rope_parameters, partial_rotary_factor))
        self._check_names(kwargs)
        self._check_sizes()
        super().__init__(
            tie_word_embeddings=tie_word_embeddings,
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            **kwargs,
        )

    def split(self, field: str) -> tuple[int, ...]:
        """The shares of the chains in the width ``field``, such as ``"hidden_size"``."""
        return split(field, getattr(self, field), self.chains, (self.chain_widths or {}).get(field))

    def kv_owner(self, chain: int) -> int:
        """The chain, counted from 0, whose keys and values the query heads of ``chain`` read."""
        return chain

    def to_dict(self) -> dict[str, Any]:
        """The fields as config.json has them. ``architectures`` has the name that the engine knows."""
        fields = super().to_dict()
        fields["architectures"] = [self.architecture]
        if self.chain_widths is None:
            fields.pop("chain_widths", None)
        return fields

    def to_diff_dict(self) -> dict[str, Any]:
        """The fields of a saved config.json, without defaults of transformers. Version 4 ties embeddings by default."""
        return {**super().to_diff_dict(), "tie_word_embeddings": self.tie_word_embeddings}

    def _default_head_dim(self) -> int:
        self._check_size("num_attention_heads")
        self._check_size("hidden_size")
        if self.hidden_size % self.num_attention_heads:
            expected = f"expected a multiple of num_attention_heads = {self.num_attention_heads}, or head_dim"
            raise refused("hidden_size", self.hidden_size, expected)
        return self.hidden_size // self.num_attention_heads

    def _check_names(self, kwargs: dict[str, Any]) -> None:
        written = kwargs.get("architectures")
        if written and list(written) != [self.architecture]:
            raise refused("architectures", written, f"model_type {self.model_type!r} has {[self.architecture]!r}")
        if self.hidden_act != "silu":
            raise refused("hidden_act", self.hidden_act, 'only "silu" is defined for CoLM')

    def _check_size(self, field: str) -> None:
        size = getattr(self, field)
        if not is_whole(size) or size < 1:
            raise refused(field, size, "expected a whole number of at least 1")

    def _check_sizes(self) -> None:
        sizes = ("vocab_size", "num_hidden_layers", "max_position_embeddings", "head_dim")
        for field in (*sizes, *SPLIT_FIELDS):
            self._check_size(field)
        if self.head_dim % 2:
            raise refused("head_dim", self.head_dim, "RoPE rotates halves; expected an even number")
        if not isinstance(self.rms_norm_eps, int | float) or not self.rms_norm_eps > 0:
            raise refused("rms_norm_eps", self.rms_norm_eps, "expected a positive number")
        for field in SPLIT_FIELDS:
            self.split(field)


class ColmAirConfig(ColmConfig):
    """The config of a CoLM-Air, whose keys and values come from chain 1 alone."""

    model_type = "colm_air"
    architecture = "CoLMAirForCausalLM"

    # transformers 5 generates an __init__ for config classes without their own, even if they inherit one.
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def split(self, field: str) -> tuple[int, ...]:
        """The shares of the chains in the width ``field``; chain 1 has all key/value heads."""
        if field != "num_key_value_heads":
            return super().split(field)
        return all_in_first(field, getattr(self, field), self.chains, (self.chain_widths or {}).get(field))

    def kv_owner(self, chain: int) -> int:
        """Chain 0: all query heads read its keys and values."""
        return 0

    def _check_sizes(self) -> None:
        super()._check_sizes()
        read = self.num_key_value_heads
        for i, own in enumerate(self.split("num_attention_heads")):
            if own % read:
                expected = f"chain {i + 1} has {own}; expected a multiple of the {read} key/value heads that it reads"
                raise refused("num_attention_heads", self.num_attention_heads, expected)

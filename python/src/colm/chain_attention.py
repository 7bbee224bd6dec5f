"""Attention of CoLM and CoLM-Air (docs/spec.md#layers)."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import repeat_kv, rotate_half

from .chain_layers import ChainLinear, ChainRMSNorm, Chains, prefixes
from .configuration_colm import ColmConfig
from .transformers_versions import updated_cache


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention with explicit weights, in at least float32; the reference for the other implementations."""
    groups = module.num_key_value_groups
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = nn.functional.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


class ChainHeads(nn.Module):
    """The query heads of one chain, and what transformers' attention functions want to know about them."""

    is_causal = True

    def __init__(self, config: ColmConfig, layer_idx: int, chain: int) -> None:
        super().__init__()
        read = config.split("num_key_value_heads")[config.kv_owner(chain)]
        heads = config.split("num_attention_heads")[chain]
        self.config = config
        self.layer_idx = layer_idx
        #: For query heads in unequal groups, which transformers does not know: the key/value head of each.
        self.kv_heads = [head * read // heads for head in range(heads)] if heads % read else None
        self.num_key_value_groups = 1 if self.kv_heads else heads // read
        self.scaling = config.head_dim**-0.5

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The outputs [batch, length, heads * head_dim] and, from eager attention, the weights.

        ``query``, ``key`` and ``value`` are [batch, heads, length, head_dim].
        """
        if self.kv_heads:
            key, value = (torch.stack([x[:, head] for head in self.kv_heads], dim=1) for x in (key, value))
        name = self.config._attn_implementation
        if "flash" in name:
            self._check_flash_dtype(query)
        function = eager_attention if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed, weights = function(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return mixed.flatten(2), weights

    def _check_flash_dtype(self, query: torch.Tensor) -> None:
        """Raises a ValueError for queries that flash attention does not take.

        transformers would take the dtype of the module's first linear layer; this module has none. For a
        quantized model it takes ``config.dtype``, so those are accepted.
        """
        if query.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(query.device.type):
            return
        if not hasattr(self.config, "_is_quantized"):
            raise ValueError(
                f"attn_implementation = {self.config._attn_implementation!r} with queries in {query.dtype}; expected "
                "bfloat16 or float16: a model of this dtype, or autocast"
            )


class ColmAttention(nn.Module):
    """Attention whose heads each belong to one chain.

    In CoLM the query heads of a chain read the keys and values of that chain, in CoLM-Air those of chain 1.
    """

    def __init__(self, config: ColmConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        hidden, self.kv_heads = config.split("hidden_size"), config.split("num_key_value_heads")
        queries = [heads * config.head_dim for heads in config.split("num_attention_heads")]
        keys = [heads * config.head_dim for heads in self.kv_heads]
        self.q_proj = ChainLinear(hidden, queries, bias=config.attention_bias)
        self.k_proj = ChainLinear(hidden, keys, bias=config.attention_bias)
        self.v_proj = ChainLinear(hidden, keys, bias=config.attention_bias)
        self.o_proj = ChainLinear(queries, hidden, bias=config.attention_bias)
        if config.qk_norm:
            self.q_norm = ChainRMSNorm([config.head_dim for _ in queries], config.rms_norm_eps)
            self.k_norm = ChainRMSNorm([config.head_dim for width in keys if width], config.rms_norm_eps)
        self.heads = nn.ModuleList(ChainHeads(config, layer_idx, i) for i in range(len(queries)))

    def forward(
        self,
        hidden: Chains,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        cache: Any = None,
        cache_positions: dict[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> tuple[Chains, torch.Tensor | None]:
        """The output chains and, from eager attention, the weights of all heads, [batch, heads, length, length].

        ``position_embeddings`` are RoPE's cosines and sines.
        """
        read = prefixes(hidden)
        queries, keys = self._heads(self.q_proj(read)), self._heads(self.k_proj(read))
        values = self._heads(self.v_proj(read))
        if self.config.qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = (_rotate(heads, *position_embeddings) for heads in (queries, keys))
        if cache is not None:
            keys, values = self._cached(cache, keys, values, cache_positions or {})
        mixed, weights = [], []
        for i, query in enumerate(queries):
            owner = self.config.kv_owner(i)
            output, attention = self.heads[i](query, keys[owner], values[owner], attention_mask, **kwargs)
            mixed.append(output)
            weights.append(attention)
        joined = None if weights[0] is None else torch.cat(weights, dim=1)
        return self.o_proj(prefixes(mixed)), joined

    def _heads(self, chains: Chains) -> Chains:
        """[batch, length, heads * head_dim] as [batch, heads, length, head_dim], for every chain."""
        return tuple(x.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2) for x in chains)

    def _cached(
        self, cache: Any, keys: Chains, values: Chains, positions: dict[str, torch.Tensor]
    ) -> tuple[Chains, Chains]:
        """The keys and values of all positions so far. The cache has the heads of all chains in one tensor."""
        key, value = torch.cat(keys, dim=1), torch.cat(values, dim=1)
        key, value = updated_cache(cache, key, value, self.layer_idx, positions)
        counts = self.kv_heads[: len(keys)]
        return key.split(counts, dim=1), value.split(counts, dim=1)


def _rotate(chains: Chains, cos: torch.Tensor, sin: torch.Tensor) -> Chains:
    """RoPE on the heads of every chain; all chains use the same positions."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return tuple(x * cos + rotate_half(x) * sin for x in chains)

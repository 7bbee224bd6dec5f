"""The backbone of CoLM and CoLM-Air: embeddings, decoder layers and the last norm."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.utils import can_return_tuple

from .chain_attention import ColmAttention
from .chain_layers import ChainEmbedding, ChainMLP, ChainRMSNorm, Chains
from .configuration_colm import ColmAirConfig, ColmConfig
from .loading import check_tensors, check_tied
from .saving import file_identities, remove_replaced, write_code
from .transformers_versions import CACHE_NAME, cache_positions, cached_heads, causal_mask


@dataclass
class ColmModelOutput(BaseModelOutputWithPast):
    """The output of the backbone. ``last_hidden_state`` has the chains in order along its last axis."""

    #: The same, one tensor per chain.
    chain_states: Chains | None = None


class ColmDecoderLayer(GradientCheckpointingLayer):
    """x += Attention(norm(x)), then x += MLP(norm(x))."""

    def __init__(self, config: ColmConfig, layer_idx: int) -> None:
        super().__init__()
        widths = config.split("hidden_size")
        self.self_attn = ColmAttention(config, layer_idx)
        self.mlp = ChainMLP(config)
        self.input_layernorm = ChainRMSNorm(widths, config.rms_norm_eps)
        self.post_attention_layernorm = ChainRMSNorm(widths, config.rms_norm_eps)

    # The chains are positional arguments, and the output is flat, for the sake of re-entrant checkpointing.
    def forward(self, *hidden: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor | None, ...]:
        """The output chains, and after them the attention weights or None."""
        change, weights = self.self_attn(self.input_layernorm(hidden), **kwargs)
        hidden = _add(hidden, change)
        hidden = _add(hidden, self.mlp(self.post_attention_layernorm(hidden)))
        return (*hidden, weights)


class ColmPreTrainedModel(PreTrainedModel):
    """What the models share: initial weights, loading and saving."""

    config_class: ClassVar[type[ColmConfig]] = ColmConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["ColmDecoderLayer"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # Older programs save it, and no program needs it.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq$"]

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """A model from a checkpoint in the chain layout.

        Raises a ValueError unless the checkpoint has each tensor of the model and no others.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        check_tensors(info["missing_keys"], info["unexpected_keys"], is_backbone=not hasattr(model, "lm_head"))
        check_tied(model)
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, *args: Any, **kwargs: Any) -> None:
        """As in other models. In a folder with weights, it replaces them, whatever their files are called."""
        writes = bool(is_main_process)
        if hasattr(self, "should_save_on_this_rank"):  # transformers 4 has no such method
            writes = self.should_save_on_this_rank(is_main_process)
        before = file_identities(save_directory)
        write_code(self, save_directory, writes)
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if writes:
            remove_replaced(save_directory, before)

    def enable_input_require_grads(self) -> None:
        """Makes re-entrant checkpointing work on a model whose embeddings are frozen.

        It needs one input of a layer that requires a gradient; the last chain's leaves frozen first chains alone.
        """

        def require(_module: nn.Module, _inputs: Any, output: Chains) -> None:
            output[-1].requires_grad_(True)

        self._require_grads_hook = self.get_input_embeddings().register_forward_hook(require)
        self._require_grads_hooks = [self._require_grads_hook]

    @property
    def active_chains(self) -> int:
        """k, the number of chains that are computed unless a call says otherwise."""
        return getattr(self, "_active_chains", len(self.config.chains))

    def set_chains(self, chains: int) -> None:
        """Sets ``active_chains``: the model becomes the one at ``chains`` chains."""
        self._active_chains = self._checked(chains)

    def _checked(self, chains: int | None) -> int:
        if chains is None:
            return self.active_chains
        if not isinstance(chains, int) or not 1 <= chains <= len(self.config.chains):
            raise ValueError(f"chains = {chains!r}: the model has {len(self.config.chains)}; expected 1 to that")
        return chains


class ColmModel(ColmPreTrainedModel):
    """The backbone: embeddings, decoder layers and the last norm."""

    def __init__(self, config: ColmConfig) -> None:
        super().__init__(config)
        widths = config.split("hidden_size")
        self.embed_tokens = ChainEmbedding(config.vocab_size, widths)
        self.layers = nn.ModuleList(ColmDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = ChainRMSNorm(widths, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        chains: int | None = None,
        cache: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> ColmModelOutput:
        """The normed output of chains 1 to k = ``chains``; later chains are neither read nor computed.

        ``inputs_embeds`` has the chains in order along its last axis, at least k of them. ``cache`` and
        ``past_key_values`` are two names of one argument, of transformers 5 and 4.
        """
        k = self._checked(chains)
        cache = past_key_values if cache is None else cache
        hidden = self._embedded(input_ids, inputs_embeds, k)
        if self._uses_cache(use_cache) and cache is None:
            cache = DynamicCache(config=self.config)
        self._check_cache(cache, k)
        length, device = hidden[0].shape[1], hidden[0].device
        if position_ids is None:
            start = 0 if cache is None else cache.get_seq_length()
            position_ids = (torch.arange(length, device=device) + start).unsqueeze(0)
        kwargs.pop("cache_position", None)  # of transformers 4, computed here
        positions = cache_positions(cache, length, device)
        mask = causal_mask(self.config, hidden[0], attention_mask, cache, position_ids, positions)
        rotation = self.rotary_emb(hidden[0], position_ids=position_ids)
        shared = {
            "attention_mask": mask,
            "position_embeddings": rotation,
            # Attention functions without a mask find the documents of a packed sequence by them.
            "position_ids": position_ids,
            "cache": cache,
            "cache_positions": positions,
        }
        states, attentions = [], []
        for layer in self.layers:
            states.append(hidden)
            *hidden, weights = layer(*hidden, **shared, **kwargs)
            attentions.append(weights)
        normed = self.norm(tuple(hidden))
        states.append(normed)
        output = ColmModelOutput(last_hidden_state=torch.cat(normed, dim=-1), chain_states=normed)
        if cache is not None:
            output[CACHE_NAME] = cache
        if self._asked(output_hidden_states, "output_hidden_states"):
            output["hidden_states"] = tuple(torch.cat(tuple(state), dim=-1) for state in states)
        if self._asked(output_attentions, "output_attentions"):
            output["attentions"] = tuple(attentions)
        return output

    def _embedded(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, k: int) -> Chains:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            return self.embed_tokens(input_ids, k)
        widths = self.config.split("hidden_size")[:k]
        if inputs_embeds.shape[-1] < sum(widths):
            raise ValueError(f"inputs_embeds of width {inputs_embeds.shape[-1]}; expected at least {sum(widths)}")
        return inputs_embeds[..., : sum(widths)].split(widths, dim=-1)

    def _uses_cache(self, use_cache: bool | None) -> bool:
        """Whether to create a cache. Training needs none, and checkpointing would update it twice."""
        if self.training and self.gradient_checkpointing:
            return False
        return self.config.use_cache and not self.training if use_cache is None else use_cache

    def _check_cache(self, cache: Any, k: int) -> None:
        held, expected = cached_heads(cache), sum(self.config.split("num_key_value_heads")[:k])
        if held not in (None, expected):
            raise ValueError(
                f"chains = {k}: the cache holds {held} key/value heads per layer; expected {expected}. In CoLM a "
                "sequence keeps its number of chains"
            )

    def _asked(self, argument: bool | None, name: str) -> bool:
        return bool(getattr(self.config, name) if argument is None else argument)


class ColmAirModel(ColmModel):
    """The backbone of CoLM-Air."""

    config_class = ColmAirConfig


def _add(hidden: Chains, change: Chains) -> Chains:
    return tuple(x + y for x, y in zip(hidden, change, strict=True))

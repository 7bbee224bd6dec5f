"""CoLM and CoLM-Air as language models of transformers. The tensor names are those of docs/spec.md#chain-layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

# For a local checkpoint, transformers 4 copies the modules that this file names, not those that they import in turn.
# So it names all of them.
from .backbone import ColmAirModel, ColmModel, ColmPreTrainedModel
from .chain_attention import ColmAttention  # noqa: F401
from .chain_layers import ChainHead
from .chain_loss import causal_lm_loss, check_loss_weights, weighted_mean
from .chain_widths import split  # noqa: F401
from .configuration_colm import ColmAirConfig, ColmConfig
from .loading import check_tensors  # noqa: F401
from .rope_fields import rope_parameters_of  # noqa: F401
from .saving import package_class  # noqa: F401
from .transformers_versions import CACHE_NAME


@dataclass
class ColmCausalLMOutput(CausalLMOutputWithPast):
    """The output of the language model at k chains."""

    #: With loss weights: the losses at 1, 2, .. k chains, without their graph.
    chain_losses: torch.Tensor | None = None


class ColmForCausalLM(ColmPreTrainedModel, GenerationMixin):
    """The language model."""

    backbone_class: ClassVar[type[ColmModel]] = ColmModel

    def __init__(self, config: ColmConfig) -> None:
        super().__init__(config)
        self.model = self.backbone_class(config)
        self.vocab_size = config.vocab_size
        self.lm_head = ChainHead(config.split("hidden_size"), config.vocab_size)
        self.loss_weights: list[float] | None = None
        self._tied_weights_keys = {
            f"lm_head.chains.{i}.weight": f"model.embed_tokens.chains.{i}.weight" for i in range(len(config.chains))
        }
        self.post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in other models. With the code beside the weights, AutoModel loads the backbone alone."""
        module = self.backbone_class.__module__.rpartition(".")[2]
        written = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {**written, "AutoModel": f"{module}.{self.backbone_class.__name__}"}
        super().save_pretrained(*args, **kwargs)

    def set_chains(self, chains: int) -> None:
        """Sets the number of chains of calls that name none: the model becomes the one at ``chains`` chains."""
        super().set_chains(chains)
        self.model.set_chains(chains)

    def set_loss_weights(self, weights: Sequence[float] | None) -> None:
        """Makes the loss the mean of the losses at 1, 2, .. n chains with these weights; None: the loss at k alone."""
        self.loss_weights = None if weights is None else check_loss_weights(weights, len(self.config.chains))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        chains: int | None = None,
        cache: Any = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> ColmCausalLMOutput:
        """Logits at k = ``chains`` and, with ``labels``, the loss at k, or with loss weights the mean up to k.

        ``shift_labels`` are labels that are already shifted.
        """
        # No parameter, because the Trainer evaluates only batches that have every parameter with "label" in its name.
        shift_labels = kwargs.pop("shift_labels", None)
        k = self._checked(chains)
        cache = past_key_values if cache is None else cache
        output = self.model(
            input_ids, attention_mask, position_ids, cache, inputs_embeds, use_cache, k, return_dict=True, **kwargs
        )
        states = tuple(_kept(state, logits_to_keep) for state in output.chain_states)
        loss = chain_losses = None
        if labels is None and shift_labels is None:
            logits = self.lm_head(states)
        elif self.loss_weights is None:
            logits = self.lm_head(states)
            loss = causal_lm_loss(logits, labels, num_items_in_batch, shift_labels)
        else:
            weights = check_loss_weights(self.loss_weights[:k], k)
            every = self.lm_head.at_every_k(states)
            logits = every[-1]
            losses = torch.stack([causal_lm_loss(z, labels, num_items_in_batch, shift_labels) for z in every])
            loss, chain_losses = weighted_mean(losses, weights), losses.detach()
        passed_on = {name: getattr(output, name) for name in (CACHE_NAME, "hidden_states", "attentions")}
        return ColmCausalLMOutput(loss=loss, logits=logits, chain_losses=chain_losses, **passed_on)

    def logits_at_every_k(self, *args: Any, chains: int | None = None, **kwargs: Any) -> torch.Tensor:
        """Logits [k, batch, length, vocab] at 1, 2, .. k = ``chains`` chains, in one pass.

        The arguments are those of the backbone.
        """
        output = self.model(*args, chains=self._checked(chains), return_dict=True, use_cache=False, **kwargs)
        return torch.stack(self.lm_head.at_every_k(output.chain_states))

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """With ``tie_word_embeddings``, makes U_i and E_i one parameter."""
        # transformers 5 goes by `_tied_weights_keys`; version 4 knows models with one embedding matrix only.
        if hasattr(PreTrainedModel, "get_expanded_tied_weights_keys"):
            super().tie_weights(*args, **kwargs)
        elif self.config.tie_word_embeddings:
            for head, embedding in zip(self.lm_head.chains, self.model.embed_tokens.chains, strict=True):
                head.weight = embedding.weight

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Changes the size of the vocabulary, as in other models: the embeddings and heads of every chain."""
        embeddings: Any = self.model.embed_tokens.chains
        heads: Any = self.lm_head.chains
        for i, embedding in enumerate(embeddings):
            embeddings[i] = self._get_resized_embeddings(embedding, new_num_tokens, pad_to_multiple_of, mean_resizing)
        self.vocab_size = self.config.vocab_size = embeddings[0].num_embeddings
        for i, head in enumerate(heads):
            if self.config.tie_word_embeddings:
                head.out_features = self.vocab_size
            else:
                heads[i] = self._get_resized_lm_head(head, self.vocab_size, mean_resizing=mean_resizing)
        self.tie_weights()
        return self.model.embed_tokens


class ColmAirForCausalLM(ColmForCausalLM):
    """The language model of CoLM-Air."""

    config_class = ColmAirConfig
    backbone_class = ColmAirModel


def _kept(state: torch.Tensor, positions: int | torch.Tensor) -> torch.Tensor:
    """The positions of [batch, length, width] whose logits are wanted: the last n (0: all), or those listed."""
    return state[:, slice(-positions, None) if isinstance(positions, int) else positions]

"""Cross-entropy at one chain count, and its weighted mean over all chain counts."""

from collections.abc import Sequence

import torch
from torch import nn


def causal_lm_loss(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    num_items_in_batch: torch.Tensor | int | None = None,
    shift_labels: torch.Tensor | None = None,
    ignore_index: int = -100,
) -> torch.Tensor:
    """The loss of predicting each token from those before it, in nats, computed in at least float32.

    It is the mean over the predicted tokens, or the sum divided by ``num_items_in_batch``, as the Trainer asks for when
    it accumulates gradients. ``shift_labels`` are labels that are already shifted.
    """
    if shift_labels is None:
        if labels is None:
            raise ValueError("expected labels or shift_labels")
        shift_labels = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    wide = logits.flatten(0, -2).to(torch.promote_types(logits.dtype, torch.float32))
    targets = shift_labels.flatten().to(logits.device)
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = nn.functional.cross_entropy(wide, targets, ignore_index=ignore_index, reduction=reduction)
    if num_items_in_batch is None:
        return loss
    if isinstance(num_items_in_batch, torch.Tensor):
        # Under DataParallel it comes as [1, 1]; the loss is a scalar in any case.
        num_items_in_batch = num_items_in_batch.to(loss.device).reshape(())
    return loss / num_items_in_batch


def check_loss_weights(weights: Sequence[float], chains: int) -> list[float]:
    """The weights of the losses at 1, 2, .. ``chains`` chains, checked."""
    weights = [float(weight) for weight in weights]
    if len(weights) != chains:
        raise ValueError(f"{len(weights)} loss weights; expected {chains}, one for each chain count")
    if not all(0 <= weight < float("inf") for weight in weights) or sum(weights) == 0:
        raise ValueError(f"loss weights {weights}; expected no negative number, and one above 0")
    return weights


def weighted_mean(losses: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """The mean of the losses at 1, 2, .. chains. Only the proportions of the weights matter."""
    scale = torch.tensor(weights, dtype=losses.dtype, device=losses.device)
    return (losses * scale).sum() / sum(weights)

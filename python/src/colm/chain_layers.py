"""Layers whose output chain i reads input chains 1 to i only (docs/spec.md#layers).

Vectors are passed as one tensor per chain, for the chains that are computed. So a chain that needs no gradient, such as
a frozen first chain, records none, and its backward pass costs nothing.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn

from .configuration_colm import ColmConfig

#: One tensor per computed chain, each [.., width of the chain].
Chains = tuple[torch.Tensor, ...]


def prefixes(chains: Sequence[torch.Tensor]) -> Chains:
    """x_<=i for every chain i: views of one concatenation."""
    joined = torch.cat(tuple(chains), dim=-1)
    needs_grad, width, views = False, 0, []
    for chain in chains:
        width += chain.shape[-1]
        needs_grad = needs_grad or chain.requires_grad
        # The concatenation needs a gradient as soon as one chain does; a prefix before it does not.
        source = joined if needs_grad else joined.detach()
        views.append(source[..., :width])
    return tuple(views)


class ChainLinear(nn.Module):
    """y_i = W_i x_<=i + b_i. Chains of width 0, at the end, have no output."""

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], bias: bool) -> None:
        super().__init__()
        widths = zip(accumulate(inputs), outputs, strict=True)
        self.chains = nn.ModuleList(nn.Linear(read, own, bias=bias) for read, own in widths if own)

    def forward(self, inputs: Chains) -> Chains:
        """The outputs for the ``prefixes`` of the input."""
        return tuple(linear(read) for linear, read in zip(self.chains, inputs, strict=False))


class RMSNorm(nn.Module):
    """w * x / sqrt(mean(x^2) + eps), computed in at least float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The norm over the last axis."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)

    def extra_repr(self) -> str:
        """The width and eps, for ``print(model)``."""
        return f"{tuple(self.weight.shape)}, eps={self.eps}"


class ChainRMSNorm(nn.Module):
    """A norm per chain."""

    def __init__(self, widths: Sequence[int], eps: float) -> None:
        super().__init__()
        self.chains = nn.ModuleList(RMSNorm(width, eps) for width in widths)

    def forward(self, inputs: Chains) -> Chains:
        """Each chain normed by itself."""
        return tuple(norm(x) for norm, x in zip(self.chains, inputs, strict=False))


class ChainEmbedding(nn.Module):
    """x_i = E_i[token]."""

    def __init__(self, vocab_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.chains = nn.ModuleList(nn.Embedding(vocab_size, width) for width in widths)

    def forward(self, tokens: torch.Tensor, chains: int | None = None) -> Chains:
        """The embeddings of the first ``chains`` chains."""
        return tuple(embedding(tokens) for embedding in list(self.chains)[:chains])


class ChainHead(nn.Module):
    """The logits at k chains: the sum over i <= k of U_i z_i."""

    def __init__(self, widths: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.chains = nn.ModuleList(nn.Linear(width, vocab_size, bias=False) for width in widths)

    def forward(self, inputs: Chains) -> torch.Tensor:
        """The logits at as many chains as ``inputs`` has."""
        logits = self.chains[0](inputs[0])
        for head, z in zip(self.chains[1 : len(inputs)], inputs[1:], strict=True):
            logits = logits + head(z)
        return logits

    def at_every_k(self, inputs: Chains) -> list[torch.Tensor]:
        """The logits at 1, 2, .. chains; no chain is computed twice."""
        return list(accumulate(head(z) for head, z in zip(self.chains, inputs, strict=False)))


class ChainMLP(nn.Module):
    """h_i = silu(g_i) * u_i, with ChainLinear layers gate, up and down."""

    def __init__(self, config: ColmConfig) -> None:
        super().__init__()
        hidden, inner = config.split("hidden_size"), config.split("intermediate_size")
        self.gate_proj = ChainLinear(hidden, inner, bias=config.mlp_bias)
        self.up_proj = ChainLinear(hidden, inner, bias=config.mlp_bias)
        self.down_proj = ChainLinear(inner, hidden, bias=config.mlp_bias)

    def forward(self, hidden: Chains) -> Chains:
        """The output chains."""
        read = prefixes(hidden)
        gates, ups = self.gate_proj(read), self.up_proj(read)
        inner = [nn.functional.silu(gate) * up for gate, up in zip(gates, ups, strict=True)]
        return self.down_proj(prefixes(inner))

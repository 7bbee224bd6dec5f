"""The formulas that the kernels compute, in float64. See docs/spec.md#layers."""

import torch


def relative_error(found, expected):
    """The relative error of the whole tensor in the 2-norm; NaN if a number was not written."""
    if expected.numel() == 0:
        return 0.0
    return ((found.double() - expected).norm() / expected.norm()).item()


def inputs_of(x, rows, chain):
    """x_<=chain on the rows of the chain."""
    count, row_map = rows.counts[chain], rows.row_maps[chain]
    parts = []
    for earlier in range(chain + 1):
        if row_map is None or earlier == chain:
            parts.append(x[earlier][:count])
        else:
            parts.append(x[earlier][row_map[earlier].long()])
    return torch.cat(parts, dim=1).double()


def linear(x, rows, matrix, chain):
    inputs = inputs_of(x, rows, chain)

    def product(weight, bias):
        y = inputs @ weight.double().T
        return y if bias is None else y + bias.double()

    y = product(matrix.weight, matrix.bias)
    if matrix.up is not None:
        y = torch.nn.functional.silu(y) * product(matrix.up, matrix.up_bias)
    return y if matrix.residual is None else y + matrix.residual.double()


def rms_norm(x, weight, eps):
    x = x.double()
    return weight.double() * x / (x.square().mean(dim=1, keepdim=True) + eps).sqrt()


def rope_tables(positions, head_dim, theta, device):
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim)
    angles = torch.arange(positions, dtype=torch.float64, device=device)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rope(x, cos, sin, positions):
    """RoPE of `x` [rows, heads, head_dim]."""
    cos, sin = cos[positions.long()].double()[:, None], sin[positions.long()].double()[:, None]
    left, right = x.double().chunk(2, dim=2)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=2)


def attention(q, keys, values, first_position, scale):
    """The rows of a sequence from `first_position` on: `q` [rows, heads, head_dim], and `keys` and
    `values` [positions, kv_heads, head_dim] of all positions that a row sees."""
    group = q.shape[1] // keys.shape[1]
    keys, values = (tensor.double().repeat_interleave(group, dim=1) for tensor in (keys, values))
    scores = torch.einsum("rhd,phd->hrp", q.double(), keys) * scale
    rows = first_position + torch.arange(q.shape[0], device=q.device)
    masked = torch.arange(keys.shape[0], device=q.device)[None] > rows[:, None]
    weights = scores.masked_fill(masked, float("-inf")).softmax(dim=2)
    return torch.einsum("hrp,phd->rhd", weights, values)

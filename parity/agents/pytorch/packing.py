"""Packing real tokens together, so that attention spends next to nothing on padding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# On the CPU, attention over this many rows stays within the cache, and rows of one group hold about as many tokens.
# Elsewhere the number of calls weighs more than either.
_CPU_GROUP = 32


@dataclass(frozen=True)
class Packing:
    """Rows sorted by their number of real tokens and cut into groups, each as wide as its longest row.

    Attributes:
        tokens: int64 ``[P]``, positions in the flattened ``[N * S]`` tokens; group after group of ``[n, width]``.
        biases: per group ``[n, 1, width]``, to be added to the scores: 0 for a row's own tokens, -inf for the rest. A
            row without any token sees one of another row, so that its attention stays finite.
        has_token: ``[N, 1, 1]`` in sorted order, 1 or 0, to multiply by what the row attended to.
        position: int64 ``[N]``, where each row went.
    """

    tokens: Tensor
    biases: tuple[Tensor, ...]
    has_token: Tensor
    position: Tensor


def pack(mask: Tensor, dtype: torch.dtype) -> Packing:
    """Pack the tokens where ``mask`` (bool ``[N, S]``) is true; biases and ``has_token`` get ``dtype``."""
    rows = len(mask)
    counts = mask.sum(1)
    sorted_counts, order = counts.sort(stable=True)
    first = (counts.cumsum(0) - counts)[order].unsqueeze(1)
    # One position more, for rows without a token that nothing follows.
    real = torch.cat((mask.flatten().nonzero().squeeze(1), counts.new_zeros(1)))
    visible = sorted_counts.clamp(min=1).unsqueeze(1)
    size = _CPU_GROUP if mask.device.type == "cpu" else rows
    last_rows = [min(start + size, rows) - 1 for start in range(0, rows, size)]
    columns = torch.arange(mask.shape[1], device=mask.device)
    tokens: list[Tensor] = []
    biases: list[Tensor] = []
    for group, width in enumerate(visible[last_rows, 0].tolist()):
        part, inside = slice(group * size, (group + 1) * size), columns[:width]
        tokens.append(real[(first[part] + inside).clamp(max=len(real) - 1)].flatten())
        bias = torch.zeros(len(visible[part]), width, dtype=dtype, device=mask.device)
        biases.append(bias.masked_fill_(inside >= visible[part], -math.inf).unsqueeze(1))
    position = torch.empty_like(order)
    position[order] = torch.arange(rows, device=mask.device)
    return Packing(torch.cat(tokens), tuple(biases), (sorted_counts > 0).to(dtype).view(rows, 1, 1), position)

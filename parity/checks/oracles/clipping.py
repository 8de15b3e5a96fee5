"""Weight clipping and the l2-init loss, stated plainly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def clipped(weight: Tensor, initial: Tensor, factor: float) -> Tensor:
    """``weight`` limited to +-(factor * max |initial|); unchanged when ``factor`` is 0."""
    if factor == 0:
        return weight.clone()
    bound = factor * float(initial.abs().max())
    return torch.where(weight > bound, bound, torch.where(weight < -bound, -bound, weight))


def l2_distance(
    weights: Mapping[str, Tensor], start: Mapping[str, Tensor], scales: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """``sum of scale * sum((W - W_start)^2)`` and its gradient by hand, ``2 * scale * (W - W_start)``."""
    first = next(iter(weights.values()))
    total = torch.zeros((), dtype=first.dtype, device=first.device)
    gradients = {}
    for name, weight in weights.items():
        difference = weight - start[name]
        total = total + scales[name] * (difference * difference).sum()
        gradients[name] = 2 * scales[name] * difference
    return total, gradients

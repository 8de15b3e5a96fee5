"""What is done to the weights of Linear and Conv2d layers, wherever they stand, and what is measured of components."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from parity.agents.component.base import TrackedWeight
from parity.agents.component.layers import WeightLayer
from parity.agents.errors import ConfigError


@torch.no_grad()
def clip(tracked: Iterable[TrackedWeight], clip_range: float) -> None:
    """Clamp each weight, in place, to +-(clip_range * clip_scale * its largest initial magnitude)."""
    for entry in tracked:
        if clip_range * entry.clip_scale > 0:
            bound = clip_range * entry.clip_scale * float(entry.initial_max)
            entry.weight.clamp_(-bound, bound)


def l2_init_loss(tracked: Iterable[TrackedWeight], zero: Tensor) -> Tensor:
    """Return ``zero`` plus the sum of ``l2_init_scale * sum((weight - initial weight)^2)``, a differentiable scalar."""
    loss = zero
    for entry in tracked:
        loss = loss + entry.l2_init_scale * (entry.weight - entry.initial_weight).square().sum()
    return loss


@torch.no_grad()
def rebase(tracked: Iterable[TrackedWeight]) -> None:
    """Make each current weight the one that ``l2_init_loss`` pulls towards."""
    for entry in tracked:
        entry.initial_weight.copy_(entry.weight)


def metrics(layers: Iterable[WeightLayer], delta: float) -> list[dict[str, float | str]]:
    """Return the singular-value statistics of each layer marked ``analyze_weights``, computed in float64 on the CPU.

    Args:
        layers: the layers, in the YAML's order.
        delta: the share of the singular values' sum that the effective rank may leave out, between 0 and 1.

    Raises:
        ConfigError: ``delta`` is not between 0 and 1.
    """
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"delta is {delta!r}; give a number between 0 and 1, both excluded")
    return [_layer_metrics(layer, delta) for layer in layers if layer.analyze_weights]


def _layer_metrics(layer: WeightLayer, delta: float) -> dict[str, float | str]:
    weight = layer.net.weight.detach().to("cpu", torch.float64).flatten(1)
    s = torch.linalg.svdvals(weight)
    exponent, r2 = _power_law(s)
    return {
        "name": layer.name,
        "singular_value_max": s.max().item(),
        "singular_value_min": s.min().item(),
        "singular_value_mean": s.mean().item(),
        "singular_value_std": s.std(correction=0).item(),
        "effective_rank": float(_effective_rank(s, delta)),
        "weight_norm": weight.square().sum().sqrt().item(),
        "power_law_exponent": exponent,
        "power_law_r2": r2,
    }


def _effective_rank(s: Tensor, delta: float) -> int:
    """Return the smallest k whose k largest singular values hold ``1 - delta`` of the sum."""
    wanted = (1.0 - delta) * s.sum()
    for k in range(1, len(s)):
        if s[:k].sum() >= wanted:
            return k
    return len(s)


def _power_law(s: Tensor) -> tuple[float, float]:
    """Fit log s_k = a - exponent * log k by least squares; return the exponent and the share of variance explained."""
    y = s[s > 1e-12 * s[0]].log()
    if len(y) < 2:
        return 0.0, 0.0
    x = torch.arange(1, len(y) + 1, dtype=torch.float64).log()
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    variance = (dy @ dy).item()
    if variance == 0.0:  # a flat spectrum: nothing to explain
        return 0.0, 0.0
    residual = dy - slope * dx
    return -slope.item(), 1.0 - (residual @ residual).item() / variance

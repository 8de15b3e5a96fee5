"""Observation tokens as a box of normalised layers."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.agents.interface import PADDING_BYTE, EnvironmentDescription


def normalizations(environment: EnvironmentDescription, count: int) -> Tensor:
    """Return the divisor of each feature id below ``count``, 1 for ids without a feature."""
    divisors = torch.ones(count, dtype=torch.float64)
    for feature in environment.features.values():
        divisors[feature.id] = feature.normalization
    return divisors


def real_tokens(tokens: Tensor, environment: EnvironmentDescription) -> Tensor:
    """Tokens ``[N, M, 3]`` -> bool ``[N, M]``: neither padding, nor outside the box, nor of an unknown feature."""
    place, feature, _ = tokens.unbind(-1)
    inside = (place >> 4 < environment.obs_width) & (place & 15 < environment.obs_height)
    return (place != PADDING_BYTE) & inside & (feature < environment.num_layers)


def normalised_box(tokens: Tensor, environment: EnvironmentDescription, divisors: Tensor) -> Tensor:
    """Tokens ``[N, M, 3]`` -> box ``[N, layers, width, height]``; of two values for one cell the larger stays."""
    layers, width, height = environment.num_layers, environment.obs_width, environment.obs_height
    real = real_tokens(tokens, environment)
    place, feature, value = tokens.unbind(-1)
    cell = (feature.long() * width + (place >> 4)) * height + (place & 15)
    box = torch.zeros(len(tokens), layers * width * height, dtype=divisors.dtype)
    box.scatter_reduce_(1, cell.where(real, 0), value.where(real, 0).to(divisors.dtype), "amax")
    return box.view(-1, layers, width, height) / divisors.view(-1, 1, 1)

"""One step of Adam, AdamW and Muon, and clipping by the global norm, as their papers state them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: Muon: coefficients of the quintic iteration, and how often it is applied.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


@dataclass(frozen=True)
class Numbers:
    """The numbers of an optimizer; ``beta1`` is Muon's momentum."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


@dataclass
class Moments:
    """What an optimizer remembers of one parameter: steps so far, and running means by name."""

    step: int = 0
    means: dict[str, Tensor] = field(default_factory=dict)

    def mean(self, name: str, value: Tensor, beta: float) -> Tensor:
        """``beta * old + (1 - beta) * value``, kept; the first old one is 0."""
        old = self.means.get(name, torch.zeros_like(value))
        self.means[name] = beta * old + (1 - beta) * value
        return self.means[name]


def adam(weight: Tensor, gradient: Tensor, seen: Moments, numbers: Numbers, *, decoupled: bool) -> Tensor:
    """The weight after one step. Weight decay is part of the gradient (Adam), or of the weight (AdamW, decoupled)."""
    seen.step += 1
    if decoupled:
        weight = weight - numbers.learning_rate * numbers.weight_decay * weight
    else:
        gradient = gradient + numbers.weight_decay * weight
    mean = seen.mean("gradient", gradient, numbers.beta1) / (1 - numbers.beta1**seen.step)
    square = seen.mean("square", gradient * gradient, numbers.beta2) / (1 - numbers.beta2**seen.step)
    return weight - numbers.learning_rate * mean / (square.sqrt() + numbers.eps)


def muon(weight: Tensor, gradient: Tensor, seen: Moments, numbers: Numbers) -> Tensor:
    """The matrix ``[out, in]`` after one step with Nesterov momentum and decoupled weight decay."""
    seen.step += 1
    momentum = seen.mean("gradient", gradient, numbers.beta1)
    update = orthogonalised((1 - numbers.beta1) * gradient + numbers.beta1 * momentum, numbers.eps)
    stretched = numbers.learning_rate * math.sqrt(max(1.0, weight.shape[0] / weight.shape[1]))
    return weight - numbers.learning_rate * numbers.weight_decay * weight - stretched * update


def orthogonalised(matrix: Tensor, eps: float) -> Tensor:
    """``matrix`` with its singular values brought near 1, in its own dtype (optimizers may do so in bfloat16)."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T, eps).T
    a, b, c = QUINTIC
    x = matrix / max(float(matrix.square().sum()) ** 0.5, eps)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def clipped_by_norm(gradients: Mapping[str, Tensor], largest: float) -> dict[str, Tensor]:
    """All gradients by one factor, so that together they are no longer than ``largest``."""
    norm = math.sqrt(sum(float((value * value).sum()) for value in gradients.values()))
    factor = min(1.0, largest / (norm + 1e-6))
    return {name: factor * value for name, value in gradients.items()}

"""What law a freshly drawn parameter follows, measured from its values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

#: Relative room for a sample's spread and largest value to differ between two draws of one law.
SPREAD_ROOM = 0.25
#: Where a sample is small, that many standard errors of the difference of two normal samples' spreads, 1 / sqrt(n).
STANDARD_ERRORS = 5.0
#: Up to this many spreads from zero, a largest value is that of a bounded law (sqrt(3) for a uniform one): it repeats
#: from draw to draw. Of 256 normal numbers, all lie within it once in 10^7 draws; their largest scatters.
BOUNDED = 1.9
TELLING = 256


@dataclass(frozen=True)
class Law:
    """``constant`` value, or ``orthogonal`` with its gain, or ``spread`` with standard deviation and largest value."""

    kind: str
    shape: tuple[int, ...]
    first: float
    second: float = 0.0

    def agrees(self, other: Law) -> bool:
        """True when two draws could come from one law."""
        if (self.kind, self.shape) != (other.kind, other.shape):
            return False
        if self.kind == "constant":
            return self.first == other.first
        if self.kind == "orthogonal":
            return abs(self.first - other.first) <= 1e-3 * max(self.first, other.first)
        if torch.Size(self.shape).numel() < 16:
            return True  # too few values to tell one spread from another
        count = torch.Size(self.shape).numel()
        room = max(SPREAD_ROOM, STANDARD_ERRORS / count**0.5)
        if abs(self.first - other.first) > room * max(self.first, other.first):
            return False
        bounded = self.second <= BOUNDED * self.first, other.second <= BOUNDED * other.first
        if bounded[0] != bounded[1]:
            return count < TELLING
        return not bounded[0] or abs(self.second - other.second) <= room * max(self.second, other.second)

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"constant {self.first:g}"
        if self.kind == "orthogonal":
            return f"orthogonal, gain {self.first:.4g}"
        return f"spread, std {self.first:.4g}, largest {self.second:.4g}"


def initial_laws(parameters: Mapping[str, Tensor]) -> dict[str, Law]:
    """Measure the law of every parameter."""
    return {name: _law(value.detach().to(torch.float64)) for name, value in parameters.items()}


def _law(value: Tensor) -> Law:
    shape = tuple(value.shape)
    if value.numel() > 1 and bool((value == value.flatten()[0]).all()):
        return Law("constant", shape, float(value.flatten()[0]))
    if value.dim() >= 2 and value.shape[0] > 1 and value[0].numel() > 1:  # a single row is orthogonal whatever it holds
        matrix = value.flatten(1)
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        product = matrix @ matrix.T
        gain = float(product.diagonal().mean().sqrt())
        if torch.allclose(product, gain**2 * torch.eye(len(product), dtype=product.dtype), atol=1e-4 * gain**2):
            return Law("orthogonal", shape, gain)
    return Law("spread", shape, float(value.std(correction=0)), float(value.abs().max()))

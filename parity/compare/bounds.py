"""The one table of constants behind every bound, and the distances they bound.

Each constant carries the measurement it rests on. None is widened to silence a case: a case that needs it is a bug or
a missing rung.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bounds:
    """Constants of the ladder."""

    #: float64: allowed = factor x floor. Clean `fast`, 2,000 drawn gradients: at most 0.50 of what is allowed.
    float64_factor: float = 10.0
    #: float64 and ensemble: reference reruns with every weight and float input moved by one ulp, at most.
    float64_reruns: int = 5
    #: float64: no bound exceeds this share of the leaf's rms.
    float64_cap: float = 1e-9
    #: noise_floor: one-ulp reruns, at most.
    noise_reruns: int = 3
    #: noise_floor: limits of R by number of independent elements: (at least, limit), widest leaves first. Few rounding
    #: errors make R scatter. Measured on clean `fast`, 2,000 drawn examples: by elements alone R reached 2.22 for a
    #: [4, 512] gradient, which holds the errors of the 20 logits behind it; by independent elements no leaf came
    #: above 0.52 of its limit, on the same seeds.
    noise_limits: tuple[tuple[int, float], ...] = ((1000, 2.0), (64, 3.0), (0, 10.0))
    #: ensemble: allowed = factor x the largest distance of as many ulp-moved trainings at the same step. Not capped:
    #: null gradients are pure rounding, which Adam with eps 1e-12 amplifies on either side alike.
    ensemble_factor: float = 10.0
    #: gradients below this share of the largest parameter's gradient rms are null and judged absolutely.
    null_gradient: float = 1e-12

    def noise_limit(self, elements: int) -> float:
        """Return the limit of R for a leaf with so many independent elements."""
        return next(limit for least, limit in self.noise_limits if elements >= least)


BOUNDS = Bounds()
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of a float -> the integer with as many


def rms(value: Tensor) -> float:
    """Root mean square over all elements, in float64; 0.0 for an empty tensor."""
    if value.numel() == 0:
        return 0.0
    wide = value.detach().to(torch.float64)
    return float(torch.linalg.vector_norm(wide)) / wide.numel() ** 0.5


def same_bits(a: Tensor, b: Tensor) -> bool:
    """True when shape, dtype and every bit agree; NaN equals NaN of the same bits, 0.0 differs from -0.0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_floating_point():
        integer = _INTEGERS[a.element_size()]
        return bool(torch.equal(a.contiguous().view(integer), b.contiguous().view(integer)))
    return bool(torch.equal(a, b))


def move_one_ulp(value: Tensor, generator: torch.Generator) -> Tensor:
    """Move every element of a float tensor to a neighbour, up or down at random; zeros and infinities stay.

    A zero's neighbour is a denormal, which says nothing about rounding and is slow on some processors. The neighbours
    of a float are those of its bits read as an integer.
    """
    lowest, highest = -(1 << 63), (1 << 63) - 1
    eights = torch.randint(lowest, highest, (-(-value.numel() // 8),), generator=generator, dtype=torch.int64)
    bytes_ = eights.view(torch.int8)[: value.numel()].view(value.shape).to(value.device)
    moved = value.contiguous().view(_INTEGERS[value.element_size()]) + ((bytes_ >> 7) * 2 + 1)  # -1 or 0, hence -1 or 1
    stays = (value == 0) | torch.isinf(value)
    return torch.where(stays, value, moved.view(value.dtype))


def ulp_distance(a: float, b: float, dtype: torch.dtype) -> float:
    """How many representable numbers of ``dtype`` lie between ``a`` and ``b``; inf when one is not finite."""
    pair = torch.tensor([a, b], dtype=torch.float64).to(dtype)
    if not bool(torch.isfinite(pair).all()):
        return float("inf")
    bits = pair.view(_INTEGERS[pair.element_size()]).tolist()
    lowest = -(1 << (8 * pair.element_size() - 1))
    first, second = (value if value >= 0 else lowest - value for value in bits)
    return float(abs(first - second))

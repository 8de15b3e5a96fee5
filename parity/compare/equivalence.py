"""Whether two small samples have means that differ by less than a bound: two one-sided Welch t-tests (TOST)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

#: Error rate of each of the two tests; the interval that goes with them holds 1 - 2 * ALPHA.
ALPHA = 0.05
_INTERVALS = 2000  # of Simpson's rule; the error is below 1e-9 for what is asked here
_HALVINGS = 80


@dataclass(frozen=True)
class Equivalence:
    """The outcome of ``equivalence``.

    Attributes:
        difference: mean of the sample - mean of the base.
        low: lower end of the difference's confidence interval of level ``1 - 2 * ALPHA``; likewise ``high``.
        high: see ``low``.
        p: the larger p-value of the two tests: how probable so small a difference is when the true one is the bound.
        bound: the largest difference that counts as none.
    """

    difference: float
    low: float
    high: float
    p: float
    bound: float

    @property
    def equivalent(self) -> bool:
        """Both tests refuse: the interval lies within the bound."""
        return self.p < ALPHA

    @property
    def outcome(self) -> str:
        """``equivalent``, ``different`` (not equivalent, and no difference of 0 in the interval) or ``undecided``."""
        if self.equivalent:
            return "equivalent"
        return "different" if self.low > 0.0 or self.high < 0.0 else "undecided"


def equivalence(sample: Sequence[float], base: Sequence[float], *, bound: float) -> Equivalence:
    """Test whether the means of two independent samples differ by less than ``bound``.

    Not to find a difference proves nothing when samples are small and noisy, so the burden lies the other way round:
    it is supposed that the means differ by the bound or more, and each sign of that must be refused at level ``ALPHA``.
    Variances need not be equal (Welch). Samples without any variance are compared as they are.

    Args:
        sample: at least two finite numbers.
        base: likewise.
        bound: positive; fixed before the samples are seen.

    Raises:
        ValueError: a sample is too small or not finite.
    """
    for numbers in (sample, base):
        if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a sample is {list(numbers)}; give at least two finite numbers")
    difference = fmean(sample) - fmean(base)
    shares = [variance(numbers) / len(numbers) for numbers in (sample, base)]
    error = math.sqrt(sum(shares))
    if error == 0.0:
        return Equivalence(difference, difference, difference, float(abs(difference) >= bound), bound)
    # shares are scaled first, for tiny ones would vanish when squared
    freedom = 1.0 / sum(
        (share / sum(shares)) ** 2 / (len(x) - 1) for share, x in zip(shares, (sample, base), strict=True)
    )
    p = 1.0 - student_t((bound - abs(difference)) / error, freedom)
    reach = error * student_t_quantile(1.0 - ALPHA, freedom)
    return Equivalence(difference, difference - reach, difference + reach, p, bound)


def student_t(t: float, freedom: float) -> float:
    """Probability that a number from Student's t distribution is below ``t``.

    With t = sqrt(freedom) * tan(angle) the density becomes cos(angle) ** (freedom - 1) on a finite interval, where
    Simpson's rule does.

    Args:
        t: finite.
        freedom: degrees of freedom, at least 1, not necessarily whole.
    """
    end = math.atan(t / math.sqrt(freedom))
    width = end / _INTERVALS
    heights = [math.cos(step * width) ** (freedom - 1.0) for step in range(_INTERVALS + 1)]
    area = width / 3.0 * (heights[0] + 4.0 * sum(heights[1::2]) + 2.0 * sum(heights[2:-1:2]) + heights[-1])
    scale = math.exp(math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(math.pi)
    return 0.5 + scale * area


def student_t_quantile(probability: float, freedom: float) -> float:
    """The number below which a share ``probability`` (0.5 to 0.999) of Student's t distribution lies."""
    low, high = 0.0, 400.0  # at one degree of freedom 0.999 is at 318
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if student_t(middle, freedom) < probability else (low, middle)
    return (low + high) / 2.0

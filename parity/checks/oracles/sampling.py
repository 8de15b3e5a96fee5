"""How segments are drawn and what each draw weighs."""

from __future__ import annotations

from collections.abc import Sequence


def probabilities(advantages: Sequence[Sequence[float]], alpha: float) -> list[float]:
    """Share of each segment: the sum of its absolute advantages to the power alpha, plus 1e-6."""
    priorities = []
    for segment in advantages:
        total = 0.0
        for advantage in segment:
            total += abs(advantage)
        priorities.append(total**alpha + 1e-6)
    everything = sum(priorities)
    return [priority / everything for priority in priorities]


def importance_exponent(start: float, update: int, total_updates: int) -> float:
    """``start`` at the first update, 1 at the last and beyond, a straight line between."""
    return start + (1.0 - start) * min(1.0, update / max(1, total_updates - 1))


def importance_weights(shares: Sequence[float], drawn: Sequence[int], exponent: float) -> list[float]:
    """What a drawn segment counts, by how much likelier it was than by chance; not normalised."""
    return [(len(shares) * shares[index]) ** -exponent for index in drawn]

"""Reruns of the reference, and how far each leaf is from what it is measured against.

A rerun is a trace, or what is left of one: its distances are all that a recording keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parity.compare.bounds import rms
from parity.compare.trace import Place, Trace

Distances = Mapping[Place, float]
"""How far a rerun was from what it is measured against, by place."""

Rerun = Callable[[int], Trace | Distances]
"""Makes the trace of the reference with every weight and float input moved by one ulp; the argument numbers it."""


def is_native(trace: Trace) -> bool:
    """True when the trace's floats are narrower than float64."""
    return any(
        isinstance(entry.value, Tensor)
        and entry.value.is_floating_point()
        and entry.value.dtype != torch.float64
        and entry.judged == "value"
        for _, entry in trace
    )


def base_of(place: Place, reference: Trace, wide: Trace | None) -> Trace:
    """What distances are taken to: the reference, in float64 where rounding is what is measured."""
    return reference if wide is None or reference.entries[place].judged == "ensemble" else wide


def moved_by(moved: Trace | Distances, place: Place, own: Trace) -> float | None:
    """How far a rerun moved one leaf; None where it recorded no such leaf, or no float."""
    if not isinstance(moved, Trace):
        return moved.get(place)
    entry = moved.entries.get(place)
    if entry is None or not isinstance(entry.value, Tensor) or not entry.value.is_floating_point():
        return None
    return rms(finite(entry.value, own.entries[place].value))


def distances(reference: Trace, moved: Trace, wide: Trace | None) -> dict[Place, float]:
    """How far an ulp-moved rerun of the reference is from it, as ``judge`` takes it: all that is needed of the rerun.

    Args:
        reference: the trace that a candidate will be judged by.
        moved: the rerun's.
        wide: the reference's float64 trace where its own floats are narrower, else None.
    """
    found = {}
    for place in reference.entries:
        base = base_of(place, reference, wide)
        if place in base.entries and isinstance(base.entries[place].value, Tensor):
            found[place] = moved_by(moved, place, base)
    return {place: distance for place, distance in found.items() if distance is not None}


def finite(value: Tensor, base: Tensor) -> Tensor:
    """Value - base in float64, 0 where both are the same infinity."""
    wide, other = value.to(torch.float64), base.to(torch.float64)
    return torch.where(wide == other, torch.zeros_like(wide), wide - other)

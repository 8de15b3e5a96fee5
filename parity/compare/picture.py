"""What a report draws of a comparison, as few enough numbers to travel with a result and to be stored.

A picture is a difference of two tensors, pooled down to a grid; a trajectory is the distance of two trainings after
each update, beside how far equal trainings drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.nn.functional import max_pool2d

from parity.compare.trace import Place

#: A grid never has more cells than these; a larger tensor is pooled by its largest differences.
MOST_ROWS, MOST_COLUMNS = 32, 64

#: So many updates of a training are kept; a longer one is thinned out, the worst of neighbours remains.
MOST_UPDATES = 40


def pictures(difference: Tensor, sequence: tuple[int, int] | None = None) -> tuple[dict[str, Any], ...]:
    """Grids of a difference: row x step where it has batch and time axes, and row x column.

    Args:
        difference: absolute differences, any shape, float64.
        sequence: rows and steps ``(B, T)`` of the run, where the tensor may be ``[B, T, ...]`` or ``[B * T, ...]``.

    Returns:
        For each grid ``axes`` (what a line and a column stand for), ``shape`` (before pooling), ``pooled`` (elements of
        a cell down and across), ``over`` (elements behind each number of ``shape``) and ``values``, three digits, line
        by line. A tensor without two axes longer than one is one sequence of elements, broken into lines: its ``shape``
        has one number. Nothing for a single element.
    """
    if difference.numel() < 2:
        return ()
    found = []
    if sequence is not None and min(sequence) >= 1 and sequence[1] > 1 and _has_steps(difference, sequence):
        each = difference.reshape(*sequence, -1)
        found.append(_grid(each.amax(2), ["row", "step"], each.shape[2]))
        if each.shape[2] == 1:
            return tuple(found)
    flat = difference.reshape(difference.shape[0], -1)
    if min(flat.shape) > 1:
        rest = difference.dim() - 1
        found.append(_grid(flat, ["row", "column" if rest == 1 else f"axes 1 to {rest}"], 1))
    else:
        found.append(_lines(flat.flatten()))
    return tuple(found)


def trajectory(points: Iterable[tuple[Place, float, float, float]]) -> list[dict[str, Any]]:
    """The worst place of each phase after each update; empty when the points are of fewer than two updates.

    Args:
        points: place, distance, noise (how far equal runs lie apart) and the bound.
    """
    known = [point for point in points if point[0].update is not None and point[3] > 0]
    updates = {point[0].update or 0 for point in known}
    if len(updates) < 2:
        return []
    together = -(-(max(updates) + 1) // MOST_UPDATES)
    worst: dict[tuple[str, int], tuple[Place, float, float, float]] = {}
    for point in known:
        key = point[0].phase, (point[0].update or 0) // together
        if key not in worst or point[1] / point[3] > worst[key][1] / worst[key][3]:
            worst[key] = point
    return [
        {
            "update": place.update,
            "phase": place.phase,
            "place": f"{place.component}/{place.key}",
            "measured": _short(measured),
            "noise": _short(noise),
            "allowed": _short(allowed),
        }
        for place, measured, noise, allowed in worst.values()
    ]


def _has_steps(difference: Tensor, sequence: tuple[int, int]) -> bool:
    rows, steps = sequence
    return tuple(difference.shape[:2]) == sequence or difference.shape[0] == rows * steps


def _grid(values: Tensor, axes: list[str], over: int) -> dict[str, Any]:
    """Two axes, pooled so that both fit."""
    down, across = -(-values.shape[0] // MOST_ROWS), -(-values.shape[1] // MOST_COLUMNS)
    return _picture(_pooled(values, down, across), axes, list(values.shape), [down, across], over)


def _lines(values: Tensor) -> dict[str, Any]:
    """One axis, pooled so that it fits, and broken into lines."""
    across = -(-values.numel() // (MOST_ROWS * MOST_COLUMNS))
    cells = _pooled(values[None], 1, across)[0]
    width = next(n for n in (MOST_COLUMNS // 2, MOST_COLUMNS) if cells.numel() <= n * MOST_ROWS // 2 or n > 32)
    lines = [cells[start : start + width] for start in range(0, cells.numel(), width)]
    return _picture(lines, ["", "element"], [values.numel()], [1, across], 1)


def _pooled(values: Tensor, down: int, across: int) -> Tensor:
    if down == across == 1:
        return values
    return max_pool2d(values[None, None], (down, across), ceil_mode=True)[0, 0]


def _picture(
    lines: Iterable[Tensor], axes: list[str], shape: list[int], pooled: list[int], over: int
) -> dict[str, Any]:
    values = [[_short(value) for value in line.tolist()] for line in lines]
    return {"axes": axes, "shape": shape, "pooled": pooled, "over": over, "values": values}


def _short(value: float) -> float:
    return float(f"{value:.3g}")

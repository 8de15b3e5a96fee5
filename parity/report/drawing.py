"""Where the pictures of the HTML report put their marks: plain numbers and path data; templates draw them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from parity.report.describe import number
from parity.results import Result

#: Shades of a difference, faint to strong, and how much of its cell a square of each fills: not by colour alone. The
#: first is of what is no larger than the bound.
SIZES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.92)
_LINEAR = 1000.0  # a difference that spans more, but for its smallest tenth, is shaded by its logarithm

#: Phases of an update in the order they happen, as a person calls what was compared there.
_PHASES = {"rollout": "actions and values", "advantages": "advantages", "forward": "losses", "clip": "weights"}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 150, 46, 10, 8, 22
_INSET, _MOST_TICKS = 14, 5

#: Margins lie on this share of a strip; what is beyond the bound lies in the middle of the rest.
_WITHIN, _BEYOND = 88.0, 95.0


def grid(picture: Mapping[str, Any], allowed: float) -> dict[str, Any]:
    """One picture of a divergence (see ``compare.picture``) as squares, a legend and words for its axes.

    Args:
        picture: as a divergence carries it.
        allowed: the bound of the tensor; what is no larger is drawn as a dot.
    """
    values: list[list[Any]] = picture["values"]
    cells = [(x, y, v) for y, line in enumerate(values) for x, v in enumerate(line)]
    shade, edges, logarithmic = _shades([v for _, _, v in cells if isinstance(v, (int, float)) and v > allowed])
    paths = [""] * (len(SIZES) + 1)  # the last are crosses: neither a number nor 0
    for x, y, value in cells:
        if not isinstance(value, (int, float)):
            paths[-1] += f"M{x} {y}l.7 .7m-.7 0l.7-.7"
        elif value > 0:
            kind = 1 + shade(value) if value > allowed else 0
            paths[kind] += f"M{x} {y}h{SIZES[kind]}"
    ranges = [f"at most the bound, {number(allowed)}"]
    ranges += [f"{number(low)} to {number(high)}" for low, high in pairwise(edges)]
    ranges[1] = f"up to {number(edges[1])}"
    worst = max(cells, key=lambda cell: cell[2] if isinstance(cell[2], (int, float)) else math.inf)
    return {
        "columns": max(len(line) for line in values),
        "lines": len(values),
        "squares": [(size, path) for size, path in zip(SIZES, paths, strict=False) if path],
        "crosses": paths[-1],
        "worst": worst[:2],
        "legend": [(size, text) for size, text, path in zip(SIZES, ranges, paths, strict=False) if path],
        "equal": any(value == 0 for _, _, value in cells),
        "scale": "logarithmic" if logarithmic else "linear",
        "cells": len(cells),
        **_axes(picture, max(len(line) for line in values)),
    }


def _shades(known: Sequence[float]) -> tuple[Any, list[float], bool]:
    """Shade of a difference beyond the bound, the edges between shades, and whether they are logarithmic."""
    count = len(SIZES) - 1
    known = sorted(known) or [1.0]
    high, low = known[-1], known[len(known) // 10]
    if high > low * _LINEAR:
        width = math.log(high / low) / count
        edges = [low * math.exp(width * step) for step in range(count + 1)]
        return (lambda v: min(max(int(math.log(v / low) / width), 0), count - 1)), edges, True
    edges = [high * step / count for step in range(count + 1)]
    return (lambda v: max(math.ceil(v / high * count) - 1, 0)), edges, False


def _axes(picture: Mapping[str, Any], columns: int) -> dict[str, str]:
    shape, (down, across), over = picture["shape"], picture["pooled"], picture["over"]
    first, second = picture["axes"]
    each = []
    if over > 1:
        each.append(f"the largest of the {over:,} elements there")
    if down * across > 1:
        each.append(f"pooled down to the largest of {down} x {across}, because the tensor is large")
    if len(shape) == 1:
        what = f"{shape[0]:,} elements in their order, {columns} squares a line"
        words = {"down": "", "across": _span(second, shape[0])}
    else:
        what = f"{first} x {second}"
        words = {"down": _span(first, shape[0]), "across": _span(second, shape[1])}
    return {**words, "what": "; ".join([what, *each])}


def _span(name: str, count: int) -> str:
    name = f"{name}:" if name[-1].isdigit() else name
    return f"{name} 0" if count == 1 else f"{name} 0 to {count - 1}"


def panels(trajectory: Mapping[str, Any], marked: int | None) -> list[dict[str, Any]]:
    """A training's distances, one panel per phase: measured, noise and bound after each update, on log axes.

    Args:
        trajectory: as results carry it.
        marked: the first update that diverged, if one did.
    """
    points = [p for p in trajectory["points"] if min(p["measured"], p["noise"], p["allowed"]) > 0]
    if not points:
        return []
    phases = sorted({p["phase"] for p in points}, key=lambda phase: [*_PHASES, phase].index(phase))
    updates = sorted({p["update"] for p in points})
    return [_panel(phase, [p for p in points if p["phase"] == phase], updates, marked) for phase in phases]


def _panel(phase: str, points: list[Mapping[str, Any]], updates: list[int], marked: int | None) -> dict[str, Any]:
    points = sorted(points, key=lambda p: p["update"])
    numbers = [p[key] for p in points for key in ("measured", "noise", "allowed")]
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    high = max(high, low + 1)
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(update: int) -> float:
        inner = right - _LEFT - 2 * _INSET
        return _LEFT + _INSET + inner * (update - updates[0]) / max(1, updates[-1] - updates[0])

    def y(value: float) -> float:
        return _TOP + (floor - _TOP) * (high - math.log10(value)) / (high - low)

    def across(key: str) -> str:
        """The line of a bound, drawn on to both edges."""
        spots = [(_LEFT, points[0][key]), *((x(p["update"]), p[key]) for p in points), (right, points[-1][key])]
        return " ".join(f"{left:.1f},{y(value):.1f}" for left, value in spots)

    worst = max(points, key=lambda p: p["measured"] / p["allowed"])
    every = -(-(high - low) // _MOST_TICKS)
    some = -(-len(updates) // 8)
    return {
        "title": _PHASES.get(phase, phase),
        "size": (_WIDTH, _HEIGHT),
        "plot": (_LEFT, _TOP, right, floor),
        "ticks": [(f"{y(10.0**power):.1f}", f"1e{power}") for power in range(low, high + 1, every)],
        "updates": [(f"{x(update):.1f}", update) for update in updates[::some]],
        "noise": f"{_LEFT},{floor} {across('noise')} {right},{floor}",
        "allowed": across("allowed"),
        "line": " ".join(f"{x(p['update']):.1f},{y(p['measured']):.1f}" for p in points),
        "marks": [
            (f"{x(p['update']):.1f}", f"{y(p['measured']):.1f}", p["measured"] > p["allowed"], p) for p in points
        ],
        "marked": f"{x(marked):.1f}" if marked in updates else "",
        "worst": worst,
        "share": worst["measured"] / worst["allowed"],
    }


def strips(results: Iterable[Result]) -> list[dict[str, Any]]:
    """A strip per check: a mark per result at its margin, 0 to 1, and what is beyond the bound behind that."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        if result.rung is not None:
            rows.setdefault(result.check, []).append(result)
    return [
        {
            "check": check,
            "marks": [(f"{_spot(result):.2f}", result.dtype, result) for result in found],
            "worst": max(found, key=lambda result: result.margin),
        }
        for check, found in rows.items()
    ]


def _spot(result: Result) -> float:
    return _WITHIN * result.margin if result.verdict.passed and result.margin <= 1 else _BEYOND

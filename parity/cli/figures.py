"""Metrics of trainings: reading them, and how far those of two sides lie apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Figures = Mapping[int, Mapping[str, Any]]
"""Metrics by update, from 1 on."""


def read_figures(path: Path) -> Figures:
    """Read a file of metrics; of two lines for one update the later counts."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["update"]: line for line in lines}


def apart(ours: Figures, theirs: Figures) -> list[dict[str, Any]]:
    """For each update that both have, the metric that lies furthest apart, relative to the larger of its two values.

    Returns:
        Per update ``update``, ``metric`` (empty when all are equal) and ``distance``; times are left out.
    """
    found = []
    for update in sorted(ours.keys() & theirs.keys()):
        metric, distance = worst(ours[update], theirs[update])
        found.append({"update": update, "metric": metric, "distance": distance})
    return found


def worst(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, float]:
    """The metric of one update that lies furthest apart, empty when all are equal, and by how much of its value."""
    a, b = _numbers(ours), _numbers(theirs)
    distances = {key: _relative(a.get(key), b.get(key)) for key in {**a, **b}}
    name = max(distances, key=lambda key: distances[key])
    return (name if distances[name] else ""), distances[name]


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value for key, value in metrics.items() if isinstance(value, int | float) and not key.startswith("seconds")
    }


def _relative(ours: float | None, theirs: float | None) -> float:
    if ours is None or theirs is None:
        return float("inf")
    return 0.0 if ours == theirs else abs(ours - theirs) / max(abs(ours), abs(theirs))

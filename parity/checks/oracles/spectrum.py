"""Weight metrics by plain loops over the singular values."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def layer_metrics(weight: Tensor, delta: float) -> dict[str, float]:
    """Metrics of one weight, flattened to ``[out, rest]``.

    The singular values come from an SVD in float64; everything after that is exactly rounded sums.
    """
    matrix = weight.to(torch.float64).flatten(1)
    values = sorted((float(v) for v in torch.linalg.svd(matrix, full_matrices=False).S), reverse=True)
    count = len(values)
    total = math.fsum(values)
    mean = total / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / count)
    rank = next(k for k in range(1, count + 1) if math.fsum(values[:k]) >= (1 - delta) * total)
    norm = math.sqrt(math.fsum(value * value for value in matrix.flatten().tolist()))
    points = [(math.log(k), math.log(v)) for k, v in enumerate(values, start=1) if v > 1e-12 * values[0]]
    exponent, r2 = _line(points)
    return {
        "singular_value_max": values[0],
        "singular_value_min": values[-1],
        "singular_value_mean": mean,
        "singular_value_std": spread,
        "effective_rank": float(rank),
        "weight_norm": norm,
        "power_law_exponent": exponent,
        "power_law_r2": r2,
    }


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: minus the slope, and the share of variance it explains."""
    if len(points) < 2:
        return 0.0, 0.0
    x_mean = math.fsum(x for x, _ in points) / len(points)
    y_mean = math.fsum(y for _, y in points) / len(points)
    xx = math.fsum((x - x_mean) ** 2 for x, _ in points)
    yy = math.fsum((y - y_mean) ** 2 for _, y in points)
    xy = math.fsum((x - x_mean) * (y - y_mean) for x, y in points)
    if yy == 0:
        return 0.0, 0.0
    return -xy / xx, xy**2 / (xx * yy)

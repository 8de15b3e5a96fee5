"""Advantages of one row after the other, one step after the other."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[float]]
"""One number per row and step."""


def advantages(
    values: Rows,
    rewards: Rows,
    dones: Rows,
    truncateds: Rows,
    ratio: Rows,
    *,
    gamma: float,
    gae_lambda: float,
    rho_clip: float,
    c_clip: float,
) -> list[list[float]]:
    """Generalised advantages with V-trace's correction, computed backwards; the last step of a row has none.

    ``rewards[t + 1]`` is of the action taken at t. When ``t + 1`` opens an episode nothing is carried back from there:
    a terminated step is worth its reward alone, a truncated one (that is not terminated) expects its own value again.
    """
    found = []
    for row in range(len(values)):
        steps = len(values[row])
        carried = 0.0
        backwards = [0.0]
        for t in range(steps - 2, -1, -1):
            rho, c = min(ratio[row][t], rho_clip), min(ratio[row][t], c_clip)
            if dones[row][t + 1]:
                following, trace = 0.0, 0.0
            elif truncateds[row][t + 1]:
                following, trace = values[row][t], 0.0
            else:
                following, trace = values[row][t + 1], carried
            error = rewards[row][t + 1] + gamma * following - values[row][t]
            carried = rho * error + gamma * gae_lambda * c * trace
            backwards.append(carried)
        found.append(backwards[::-1])
    return found

"""Generalised advantages with V-trace's correction, over whole segments at once."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_advantages(
    values: Tensor,
    rewards: Tensor,
    dones: Tensor,
    truncateds: Tensor,
    importance_ratio: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    rho_clip: float,
    c_clip: float,
) -> Tensor:
    """Advantage of every step, computed backwards over time.

    Step t looks one step ahead: ``rewards[t + 1]`` is what its action earned, ``dones[t + 1]`` and
    ``truncateds[t + 1]`` say that ``t + 1`` opens a new episode. With ``rho = min(ratio, rho_clip)`` and
    ``c = min(ratio, c_clip)``:

        A[t] = rho[t] * (rewards[t + 1] + gamma * next_value - values[t]) + gamma * gae_lambda * c[t] * A[t + 1]

    - Usually ``next_value`` is ``values[t + 1]``.
    - After a terminated step there is nothing to come: ``next_value`` and the term in ``A[t + 1]`` are 0.
    - After a truncated step the episode would have gone on, but ``values[t + 1]`` belongs to the new one, and the
      observation it was cut at is not stored. So ``next_value`` is ``values[t]``, the last value seen in that episode,
      rather than the 0 that would call being cut off a failure; the term in ``A[t + 1]`` is 0.
    - The last step's reward is not stored with its segment, so its advantage is 0.

    Args:
        values: ``[N, T]``, floating; the result has their dtype.
        rewards: ``[N, T]``, ``rewards[t]`` of the action taken at ``t - 1``.
        dones: ``[N, T]``, non-zero = true.
        truncateds: ``[N, T]``, non-zero = true; where ``dones`` is true too, the step counts as terminated.
        importance_ratio: ``[N, T]``, new over old probability of each action; ones when they are the same.
        gamma: discount of a step, 0 to 1.
        gae_lambda: decay of the trace, 0 to 1.
        rho_clip: largest ratio in a step's own error.
        c_clip: largest ratio in the trace.

    Returns:
        ``[N, T]``.
    """
    ended = dones[:, 1:] != 0
    cut = truncateds[:, 1:] != 0
    now, ratio = values[:, :-1], importance_ratio[:, :-1]
    following = torch.where(cut, now, values[:, 1:]).masked_fill(ended, 0.0)
    errors = ratio.clamp(max=rho_clip) * (rewards[:, 1:].to(values.dtype) + gamma * following - now)
    decays = (gamma * gae_lambda * ratio.clamp(max=c_clip)).masked_fill(ended | cut, 0.0)
    # Time first, so that each step of the loop reads one contiguous row.
    rows = zip(reversed(errors.t().contiguous().unbind(0)), reversed(decays.t().contiguous().unbind(0)), strict=True)
    running = torch.zeros_like(values[:, 0])
    steps = [running]
    for error, decay in rows:
        running = torch.addcmul(error, decay, running)
        steps.append(running)
    return torch.stack(steps[::-1], dim=1)

"""The order of an update: which calls a trainer makes of a policy, and how long an update goes on."""

from __future__ import annotations

from collections.abc import Sequence


def minibatches_done(divergences: Sequence[float], *, per_epoch: int, epochs: int, target: float | None) -> int:
    """How many minibatches an update takes: it ends with the epoch whose mean divergence exceeds the target."""
    for epoch in range(epochs):
        done = divergences[epoch * per_epoch : (epoch + 1) * per_epoch]
        if target is not None and sum(done) / per_epoch > target:
            return (epoch + 1) * per_epoch
    return epochs * per_epoch


def calls(
    *, acts: int, minibatches: int, accumulate: int, update: int, rebase_every: int, measure_every: int
) -> list[str]:
    """What is called, in this order, in update number ``update`` (the first is 0); 0 as an interval is never."""
    made = ["reset_memory"]
    for _ in range(acts):
        made.append("act")
    for number in range(1, minibatches + 1):
        made += ["reset_memory", "evaluate", "backward"]
        if number % accumulate == 0:
            made += ["step", "clip_weights"]
    if rebase_every and (update + 1) % rebase_every == 0:
        made.append("update_l2_init_weight_copy")
    if measure_every and (update + 1) % measure_every == 0:
        made.append("compute_weight_metrics")
    return made


def clipped_norm(norm: float, largest: float) -> float:
    """The norm of gradients that are scaled down to at most ``largest``."""
    return norm * min(1.0, largest / (norm + 1e-6))

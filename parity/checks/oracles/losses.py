"""The PPO losses of one minibatch, element by element, and their gradients by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, sqrt

Rows = Sequence[Sequence[float]]
Sized = tuple[float, float]
"""A loss, and the mean size of the terms it is a sum of: what its rounding is measured by."""


def ratios(new: Rows, old: Rows) -> list[list[float]]:
    """New over old probability of each action."""
    return [[exp(n - o) for n, o in zip(*rows, strict=True)] for rows in zip(new, old, strict=True)]


def normalised(advantages: Rows) -> list[list[float]]:
    """Less their mean, over their sample deviation plus 1e-8: of all rows together."""
    flat = [advantage for row in advantages for advantage in row]
    mean = sum(flat) / len(flat)
    spread = sqrt(sum((advantage - mean) ** 2 for advantage in flat) / max(len(flat) - 1, 1))
    return [[(advantage - mean) / (spread + 1e-8) for advantage in row] for row in advantages]


def ppo_losses(
    evaluated: Mapping[str, Rows],
    stored: Mapping[str, Rows],
    advantages: Rows,
    l2_init: float,
    ppo: Mapping[str, float],
) -> tuple[dict[str, Sized], dict[str, list[list[float]]]]:
    """Losses, and the gradient of their total by each number of ``evaluated``.

    Args:
        evaluated: ``act_log_prob``, ``entropy`` and ``value`` of the minibatch.
        stored: ``act_log_prob`` and ``values`` of the rollout, and the ``advantages`` it was drawn with.
        advantages: of the surrogate: corrected by the ratio, normalised if wanted, times the importance weights.
        l2_init: the policy's l2-init loss.
        ppo: coefficients by their names in the configuration.
    """
    ratio = ratios(evaluated["act_log_prob"], stored["act_log_prob"])
    low, high = 1.0 - ppo["clip_coef"], 1.0 + ppo["clip_coef"]
    terms: dict[str, list[float]] = {key: [] for key in ("policy", "value", "entropy", "approx_kl", "clipfrac")}
    gradients: dict[str, list[list[float]]] = {key: [] for key in ("act_log_prob", "entropy", "value")}
    sizes: dict[str, list[float]] = {key: [] for key in terms}
    for row in range(len(ratio)):
        for key in gradients:
            gradients[key].append([])
        for t in range(len(ratio[row])):
            r, advantage = ratio[row][t], advantages[row][t]
            clipped = min(max(r, low), high)
            term = max(-advantage * r, -advantage * clipped)
            terms["policy"].append(term)
            sizes["policy"].append(abs(term))
            gradients["act_log_prob"][row].append(-advantage * r if -advantage * r >= -advantage * clipped else 0.0)

            old, new = stored["values"][row][t], evaluated["value"][row][t]
            target = stored["advantages"][row][t] + old
            change = new - old
            inside = abs(change) <= ppo["vf_clip_coef"] or not ppo["clip_vloss"]
            held = old + min(max(change, -ppo["vf_clip_coef"]), ppo["vf_clip_coef"])
            error = (new - target) ** 2
            slope = 2.0 * (new - target)
            if not inside and (held - target) ** 2 > error:
                error, slope = (held - target) ** 2, 0.0
            terms["value"].append(0.5 * error)
            sizes["value"].append(0.5 * error)
            gradients["value"][row].append(ppo["vf_coef"] * 0.5 * slope)

            terms["entropy"].append(evaluated["entropy"][row][t])
            sizes["entropy"].append(abs(evaluated["entropy"][row][t]))
            gradients["entropy"][row].append(-ppo["ent_coef"])

            log_ratio = evaluated["act_log_prob"][row][t] - stored["act_log_prob"][row][t]
            terms["approx_kl"].append((r - 1.0) - log_ratio)
            sizes["approx_kl"].append(r + 1.0 + abs(log_ratio))
            terms["clipfrac"].append(1.0 if abs(r - 1.0) > ppo["clip_coef"] else 0.0)
            sizes["clipfrac"].append(1.0)

    count = len(terms["policy"])
    found = {key: (sum(terms[key]) / count, sum(sizes[key]) / count) for key in terms}
    parts = {"policy": 1.0, "entropy": -ppo["ent_coef"], "value": ppo["vf_coef"]}
    pull = ppo["l2_init_loss_coef"] * l2_init
    total = sum(factor * found[key][0] for key, factor in parts.items()) + pull
    size = sum(abs(factor) * found[key][1] for key, factor in parts.items()) + abs(pull)
    means = {key: [[value / count for value in row] for row in rows] for key, rows in gradients.items()}
    return {**found, "total": (total, size)}, means

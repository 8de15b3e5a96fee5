from __future__ import annotations

from parity.conditions import judging
from parity.pairs.registry import registered_pairs
from parity.results import Cell
from parity.runner import Session, replay


def test_a_sum_that_rounding_makes_exactly_zero_says_nothing_of_the_other_side() -> None:
    """`_action_.bias` moves every logit alike: its gradient is 0, and here the reference's float32 sum is so too."""
    example = {
        "source": "arena",
        "seed": 1,
        "weights": 1,
        "sizes": "varied",
        "environment": None,
        "batch": 1,
        "steps": 1,
        "mode": "train",
        "resets": [1],
    }
    with judging():
        result = replay(Session(registered_pairs()["fast"]), Cell("fast", "gradients", "cpu", "float32"), example)
    assert result.verdict.passed, result.divergence

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn import functional

from parity.conditions import judging
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.results import Cell, Result
from parity.runner import Session, replay

#: Here the reference's float32 gradient of `_action_.bias`, which moves every logit alike, comes to exactly 0.
EXAMPLE = {
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


class SteeperBias(nn.Linear):
    """Computes the same, but its bias gets a gradient a hundred-thousandth too large."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias * 1.00001 - self.bias.detach() * 0.00001)


def judge(pair: Pair) -> Result:
    with judging():
        return replay(Session(pair), Cell(pair.name, "gradients", "cpu", "float32"), EXAMPLE)


@pytest.fixture
def fast() -> Pair:
    return registered_pairs()["fast"]


def test_a_sum_that_rounding_makes_exactly_zero_says_nothing_of_the_other_side(fast: Pair) -> None:
    result = judge(fast)
    assert result.verdict.passed, result.divergence


def test_the_gradient_of_a_single_number_is_still_held_to_its_rounding(fast: Pair) -> None:
    def steepen(side: str, module: Any) -> None:
        if side == "candidate":
            module.policy.value_head[0].__class__ = SteeperBias

    found = judge(dataclasses.replace(fast, fault_hooks=(steepen,))).divergence
    assert found is not None
    assert (found["component"], found["phase"]) == ("_value_", "backward")
    assert found["key"] == "policy.components._value_.net.bias"

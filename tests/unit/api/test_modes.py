"""Policies that behave one way in training and another in evaluation are judged in the mode they were built in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.compare.verdict import Verdict
from parity.results import Result


class Policy(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.body, self.layer, self.pi, self.v = nn.Linear(4, 16), layer, nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.layer(self.body(x)))
        return self.pi(x), self.v(x)


class Rewritten(Policy):
    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.layer(torch.einsum("bi,oi->bo", x, self.body.weight) + self.body.bias))
        return self.pi(x), self.v(x)


class Halved(Policy):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.half().float() if x.dtype == torch.float32 else x)


def judged(reference: Any, candidate: Any, check: str = "forward") -> list[Result]:
    pair = parity.pair(
        "mine", reference=reference, candidate=candidate, observations=parity.Observations((4,)), actions=3
    )
    return parity.judge(pair, checks=check, examples=3).results


def test_the_float64_truth_of_a_policy_in_evaluation_mode_is_in_that_mode():
    found = judged(lambda: Policy(nn.Dropout(0.5)).eval(), lambda: Halved(nn.Dropout(0.5)).eval())
    assert [result.verdict for result in found] == [Verdict.IDENTICAL, Verdict.DIVERGENT]


@pytest.mark.parametrize("layer", [lambda: nn.Dropout(0.5), lambda: nn.BatchNorm1d(16)])
def test_a_rewrite_in_evaluation_mode_is_no_difference(layer: Any):
    found = judged(lambda: Policy(layer()).eval(), lambda: Rewritten(layer()).eval())
    assert all(result.verdict.passed for result in found), found


def test_a_frozen_layer_of_a_policy_in_training_mode_stays_frozen():
    def build(kind: type[Policy]) -> Policy:
        policy = kind(nn.Dropout(0.5))
        policy.layer.eval()
        return policy

    found = judged(lambda: build(Policy), lambda: build(Halved))
    assert [result.verdict for result in found] == [Verdict.IDENTICAL, Verdict.DIVERGENT]


@pytest.mark.parametrize("layer", [lambda: nn.Dropout(0.5), lambda: nn.BatchNorm1d(16)])
def test_a_policy_that_draws_in_its_forward_is_saved_and_copied_like_itself(layer: Any):
    found = judged(lambda: Policy(layer()), lambda: Policy(layer()), "checkpoint")
    assert all(result.verdict.passed for result in found), found


def test_a_copy_that_differs_is_found_beside_dropout():
    class Keeping(Policy):
        def __init__(self) -> None:
            super().__init__(nn.Dropout(0.5))
            self.held = [torch.zeros(())]  # shared by copies that are made below

        def __deepcopy__(self, memo: Any) -> Any:
            other = Keeping()
            other.load_state_dict(self.state_dict())
            other.held = self.held
            return other.to(self.pi.weight)

        def forward(self, x: Tensor) -> Any:
            self.held[0] = self.held[0] + x.sum()
            logits, value = super().forward(x)
            return logits + self.held[0].to(x), value

    found = judged(Keeping, Keeping, "checkpoint")
    assert {result.verdict for result in found} == {Verdict.DIVERGENT}

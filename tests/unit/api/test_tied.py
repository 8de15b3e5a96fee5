"""Policies that tie weights are judged like any other: a tied parameter goes by the first of its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.compare.verdict import Verdict
from parity.results import Result


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.pi, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Any:
        x = self.b(torch.tanh(self.a(x)))
        return self.pi(x), self.v(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.pi, self.v = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 1)
        self.again = self.a

    def forward(self, x: Tensor) -> Any:
        x = self.again(torch.tanh(self.a(x)))
        return self.pi(x), self.v(x)


class Untanned(Tied):
    def forward(self, x: Tensor) -> Any:
        x = self.b(self.a(x))
        return self.pi(x), self.v(x)


def judged(reference: Any, candidate: Any, check: str) -> list[Result]:
    pair = parity.pair(
        "mine", reference=reference, candidate=candidate, observations=parity.Observations((4,)), actions=3
    )
    return parity.judge(pair, checks=check, examples=2).results


@pytest.mark.parametrize("kind", [Tied, Twice])
def test_a_policy_with_tied_weights_equals_itself(kind: type[nn.Module]):
    for check in ("construction", "initialization", "forward", "gradients", "optimizer", "checkpoint"):
        found = judged(kind, kind, check)
        assert all(result.verdict.passed for result in found), found


def test_a_difference_beside_tied_weights_is_found():
    found = judged(Tied, Untanned, "forward")
    assert {result.verdict for result in found} == {Verdict.DIVERGENT}

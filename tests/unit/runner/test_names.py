"""A pair may have any name that a report can show, not Python's alone."""

from __future__ import annotations

import pytest
from torch import nn

import parity
from parity.runner import _identifier


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pi, self.v = nn.Linear(3, 4), nn.Linear(3, 1)

    def forward(self, x):
        return self.pi(x), self.v(x)


@pytest.mark.parametrize("name", ["my-agent", "my agent", "v1.2", "3pol", "ünï", "²", "a·½"])
def test_a_pair_of_any_name_is_judged(name: str):
    pair = parity.pair(name, reference=Policy, candidate=Policy, observations=parity.Observations((3,)), actions=4)
    report = parity.judge(pair, checks="forward", examples=1)
    assert report.exit_code == 0, str(report)
    assert report.results[0].pair == name


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("mine_forward_cpu", "mine_forward_cpu"), ("ünï_x", "ünï_x"), ("3-a b", "_3_a_b"), ("a.b", "a_b")],
)
def test_names_that_are_identifiers_stay(name: str, identifier: str):
    assert _identifier(name) == identifier
    assert identifier.isidentifier()

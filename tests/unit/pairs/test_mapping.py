"""Rewrites that draw their weights in another order: equal initial values then belong to other parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.cli import main
from parity.compare.verdict import Verdict
from parity.pairs import registry
from parity.pairs.builds import Builds
from parity.pairs.parameters import ParameterLink


class Old(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        self.pi, self.v = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.q(x)) * self.k(x)
        return self.pi(hidden), self.v(hidden)


class SameNames(Old):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.k, self.q = nn.Linear(8, 8), nn.Linear(8, 8)
        self.pi, self.v = nn.Linear(8, 3), nn.Linear(8, 1)


class OtherNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor, self.gate = nn.Linear(8, 8), nn.Linear(8, 8)
        self.pi, self.v = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.gate(x)) * self.factor(x)
        return self.pi(hidden), self.v(hidden)


class Broken(OtherNames):
    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.gate(x)) * torch.relu(self.factor(x))
        return self.pi(hidden), self.v(hidden)


def pair(candidate: type[nn.Module], **options: Any) -> parity.Pair:
    observations = parity.Observations((8,))
    return parity.pair("mine", reference=Old, candidate=candidate, observations=observations, actions=3, **options)


def links(pair: parity.Pair) -> set[ParameterLink]:
    return set(Builds(pair).sides(pair.recipe).parameters.links)


@pytest.mark.parametrize(
    ("candidate", "partners"), [(SameNames, {"q": "q", "k": "k"}), (OtherNames, {"q": "gate", "k": "factor"})]
)
def test_what_is_drawn_in_another_order_is_no_divergence(candidate: type[nn.Module], partners: dict[str, str]):
    mine = pair(candidate)
    names = {name: name for name in ("pi", "v")} | partners
    assert links(mine) == {
        ParameterLink(f"{a}.{part}", f"{b}.{part}") for a, b in names.items() for part in ("weight", "bias")
    }
    report = parity.judge(mine, checks="[fg]*", examples=3)
    assert {result.verdict for result in report.results} <= {Verdict.IDENTICAL, Verdict.NOT_APPLICABLE}, str(report)


def test_what_is_wrong_is_divergent_under_every_map():
    assert "DIVERGENT  mine / forward" in str(parity.judge(pair(Broken), checks="forward", examples=1))


def test_what_is_declared_is_kept():
    declared = {"q.weight": "factor.weight", "q.bias": "factor.bias"}
    wrong = pair(OtherNames, parameters=declared)
    assert {ParameterLink(*link) for link in declared.items()} <= links(wrong)
    assert parity.judge(wrong, checks="forward", examples=1).exit_code == 1


@pytest.mark.parametrize(
    ("candidate", "code", "said"),
    [
        (OtherNames, 0, "the map that the pair is judged by says the same: 8 links"),
        (Broken, 2, "initial values equal; perhaps by chance, for the sides differ on other weights"),
    ],
)
def test_the_command_doubts_equal_values_where_the_sides_differ(
    candidate: type[nn.Module],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(registry, "_by_hand", {})
    registry.register(pair(candidate))
    assert main(["map", "mine"]) == code
    assert said in capsys.readouterr().out

"""Buffers of described pairs are moved with the stress weights, so that a candidate which forgets one is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.compare.verdict import Verdict
from parity.pairs.builds import Builds
from parity.pairs.stress import stress_buffers
from parity.results import Result


class Normed(nn.Module):
    mean: Tensor
    var: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))
        self.body, self.pi, self.v = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 1)

    def norm(self, x: Tensor) -> Tensor:
        return (x - self.mean) / torch.sqrt(self.var + 1e-8)

    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.body(self.norm(x)))
        return self.pi(x), self.v(x)


class Indexing(Normed):
    """Keeps an index as floats: on moved numbers it does not run."""

    order: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(4.0).flip(0))

    def norm(self, x: Tensor) -> Tensor:
        return x[:, self.order.long()]


def variant(norm: Any, base: type[Normed] = Normed) -> type[Normed]:
    return type("Variant", (base,), {"norm": norm})


def judged(candidate: Any, reference: Any = Normed, check: str = "forward") -> list[Result]:
    pair = parity.pair(
        "mine", reference=reference, candidate=candidate, observations=parity.Observations((4,)), actions=3
    )
    return parity.judge(pair, checks=check, examples=3).results


@pytest.mark.parametrize(
    "norm",
    [
        lambda self, x: x / torch.sqrt(self.var + 1e-8),
        lambda self, x: (x - self.mean) / (self.var + 1e-8),
        lambda self, x: x - self.mean,
    ],
)
def test_a_buffer_that_is_forgotten_or_used_otherwise_is_found(norm: Any):
    assert {result.verdict for result in judged(variant(norm))} == {Verdict.DIVERGENT}


@pytest.mark.parametrize("check", ["forward", "checkpoint", "gradients"])
def test_a_rewrite_that_uses_its_buffers_passes(check: str):
    found = judged(variant(lambda self, x: (x - self.mean) * (self.var + 1e-8).rsqrt()), check=check)
    assert all(result.verdict.passed for result in found), found


def test_buffers_on_which_the_reference_does_not_run_stay():
    found = judged(type("Same", (Indexing,), {}), Indexing)
    assert {result.verdict for result in found} == {Verdict.IDENTICAL}


def test_what_is_moved_and_how():
    class Holding(nn.Module):
        def __init__(self, own: float) -> None:
            super().__init__()
            self.line = nn.Linear(2, 2)
            self.register_buffer("zeros", torch.zeros(50))
            self.register_buffer("mixed", torch.tensor([-2.0, 3.0, float("inf"), float("nan")]))
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))
            self.register_buffer("own", torch.tensor(own))
            self.register_buffer("scratch", torch.zeros(2), persistent=False)
            self.register_buffer("view", self.line.weight.data[0])

    moved = stress_buffers(Holding(1.0), Holding(2.0), 5)
    assert set(moved) == {"zeros", "mixed"}
    assert bool((moved["zeros"] > 0).all())
    assert 0.2 < float(moved["zeros"].mean()) < 0.6
    assert -3.0 <= float(moved["mixed"][0]) <= -1.0
    assert 1.5 <= float(moved["mixed"][1]) <= 4.5
    assert float(moved["mixed"][2]) == float("inf")
    assert bool(moved["mixed"][3].isnan())
    again, other = stress_buffers(Holding(1.0), Holding(2.0), 5), stress_buffers(Holding(1.0), Holding(2.0), 6)
    assert torch.equal(again["zeros"], moved["zeros"])
    assert not torch.equal(other["zeros"], moved["zeros"])


def test_buffers_stay_as_they_are_built_on_given_weights():
    pair = parity.pair("mine", reference=Normed, candidate=Normed, observations=parity.Observations((4,)), actions=3)
    builds = Builds(pair)
    assert bool((builds.sides(pair.recipe, 0).candidate.policy.policy.mean > 0).all())
    builds.forget()
    builds.given = {name: value.detach() for name, value in Normed().named_parameters()}
    assert bool((builds.sides(pair.recipe, 0).candidate.policy.policy.mean == 0).all())

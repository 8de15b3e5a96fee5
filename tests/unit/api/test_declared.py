"""What a side declares is judged: each function and capability passes when it is right and fails when it is not."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import parity
from parity.compare.verdict import Verdict
from parity.results import Result


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.pi, self.v = nn.Linear(4, 24), nn.Linear(24, 3), nn.Linear(24, 1)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.pi(x), self.v(x)


def judged(reference: Any, candidate: Any, check: str, **options: Any) -> Result:
    pair = parity.pair("mine", reference=reference, candidate=candidate, observations=parity.Observations((4,)),
                       actions=3, **options)  # fmt: skip
    return parity.judge(pair, checks=check, examples=3).results[0]


def differs(reference: Any, candidate: Any, check: str, **options: Any) -> dict[str, Any]:
    """Judge the reference against itself, which passes, and against the candidate; return that divergence."""
    fine = judged(reference, copy.copy(reference), check, **options)
    assert fine.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT), fine
    found = judged(reference, candidate, check, **options)
    assert found.verdict is Verdict.DIVERGENT, found
    assert found.divergence is not None
    return found.divergence


def variant(**changes: Any) -> type[Policy]:
    return type("Variant", (Policy,), changes)


def grouped(decayed: Callable[[str], bool]) -> Callable[[Policy], optim.Optimizer]:
    def make(policy: Policy) -> optim.Optimizer:
        named = list(policy.named_parameters())
        groups = [
            {"params": [value for name, value in named if decayed(name) == on], "weight_decay": 0.1 * on}
            for on in (True, False)
        ]
        return optim.AdamW(groups, lr=0.01)

    return make


def test_optimizer():
    found = differs(
        parity.Side(Policy, optimizer=grouped(lambda name: name.endswith("weight"))),
        parity.Side(Policy, optimizer=grouped(lambda name: name == "body.weight")),
        "optimizer",
    )
    assert (found["component"], found["phase"]) == ("pi", "optimizer step")


def clipping(*names: str) -> Callable[[Policy], None]:
    def clip(policy: Policy) -> None:
        with torch.no_grad():
            for name in names:
                policy.get_parameter(name).clamp_(-0.2, 0.2)

    return clip


def test_clip():
    found = differs(
        parity.Side(Policy, clip=clipping("body.weight", "pi.weight")),
        parity.Side(Policy, clip=clipping("body.weight")),
        "clipping",
    )
    assert (found["component"], found["phase"]) == ("pi", "clip")


def test_gradients():
    detached = variant(features=lambda self, x: torch.tanh(self.body(x)).detach())
    assert differs(Policy, detached, "gradients")["component"] == "body"
    assert judged(Policy, detached, "gradients", without={"gradients"}).verdict is Verdict.NOT_APPLICABLE


class Counting(Policy):
    """Scales by how often it was called, which it keeps in no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def features(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.body(x)) * self.calls


def test_save():
    class Counted(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls_", torch.zeros(()))

        def features(self, x: Tensor) -> Tensor:
            self.calls_ += 1
            return torch.tanh(self.body(x)) * self.calls_

    assert judged(Counted, Counted, "checkpoint").verdict is Verdict.IDENTICAL
    found = judged(Counted, Counting, "checkpoint").divergence
    assert found is not None
    assert (found["phase"], found["side"]) == ("load", "candidate")
    assert "register buffers" in found["cause"]


def test_throughput():
    def features(self: Any, x: Tensor) -> Tensor:
        for _ in range(50):
            torch.tanh(self.body(x))
        return Policy.features(self, x)

    found = judged(Policy, variant(features=features), "throughput", capabilities={"throughput"}).divergence
    assert found is not None
    assert found["key"] == "time per call"
    assert found["measured"] > 2
    slower = judged(Policy, variant(features=features), "throughput")
    assert slower.verdict is Verdict.NOT_APPLICABLE


def test_compile(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "meta/projects")
    lstm = importlib.import_module("lstm")
    assert [result.verdict for result in parity.judge(lstm.pair, checks="compile").results] == [Verdict.IDENTICAL]

    def features(self: Any, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x)) * (1.01 if torch.compiler.is_compiling() else 1.0)

    found = judged(Policy, variant(features=features), "compile").divergence
    assert found is not None
    assert found["phase"] == "forward"
    assert "without torch.compile" in found["cause"]


def test_initial_law_and_bits():
    class Scaled(Policy):
        def __init__(self) -> None:
            super().__init__()
            nn.init.normal_(self.body.weight, std=3.0)

    class Reordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v, self.pi, self.body = nn.Linear(24, 1), nn.Linear(24, 3), nn.Linear(4, 24)

        features, forward = Policy.features, Policy.forward

    assert differs(Policy, Scaled, "initialization")["key"] == "body.weight"
    assert judged(Policy, Scaled, "initialization", without={"initial_law"}).verdict is Verdict.IDENTICAL
    assert judged(Policy, Reordered, "initialization").verdict is Verdict.IDENTICAL  # other bits, of the same law
    assert differs(Policy, Reordered, "initialization", capabilities={"initial_bits"})["component"] == "body"


def test_weights_from_a_file_do_not_depend_on_the_seed_on_either_side():
    stored = Policy().state_dict()

    def loaded() -> Policy:
        policy = Policy()
        policy.load_state_dict(stored)
        return policy

    assert judged(loaded, loaded, "initialization").verdict is Verdict.IDENTICAL
    found = judged(Policy, loaded, "initialization", without={"initial_law"}).divergence
    assert found is not None
    assert found["component"] == "seed"


def test_independent_rows():
    mixed = variant(features=lambda self, x: torch.tanh(self.body(x)) - torch.tanh(self.body(x)).mean(0))
    found = judged(mixed, mixed, "metamorphic", capabilities={"independent_rows"})
    assert found.verdict is Verdict.DIVERGENT
    assert judged(mixed, mixed, "metamorphic").verdict is Verdict.NOT_APPLICABLE


def test_frozen_parameters_are_counted():
    class Frozen(Policy):
        def __init__(self) -> None:
            super().__init__()
            self.v.requires_grad_(False)

    assert differs(Policy, Frozen, "construction")["component"] == "v"


@pytest.mark.parametrize("cast", [lambda x: x.float(), lambda x: x.to(torch.float32), lambda x: x.type(torch.float32)])
def test_code_that_asks_for_float32_runs_in_float64(cast: Callable[[Tensor], Tensor]):
    def features(self: Any, x: Tensor) -> Tensor:
        noise = torch.zeros(len(x), 24) + torch.arange(24) / 7
        return torch.tanh(self.body(cast(x)) + noise)

    policy = variant(features=features)
    assert judged(policy, policy, "forward").verdict is Verdict.IDENTICAL
    assert differs(policy, variant(features=lambda self, x: features(self, x) * 1.0001), "forward")["component"] == "pi"

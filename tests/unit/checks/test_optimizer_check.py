from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from parity.checks.optimizer import FUSED
from parity.conditions import judging
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import Pair, Recipe
from parity.pairs.registry import registered_pairs
from parity.results import Cell, Result
from parity.runner import Session, replay

REFERENCE, CANDIDATE = "policy.components.fc1.net.weight", "policy.fc1.0.weight"


class Transposed(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return input @ self.weight + self.bias


def transposed_pair() -> Pair:
    """`fast` with a candidate that keeps fc1's weight as ``[in, out]``."""
    pair = registered_pairs()["fast"]

    def candidate(recipe: Recipe) -> nn.Module:
        agent: Any = pair.candidate(recipe)
        layer = agent.policy.fc1[0]
        layer.__class__ = Transposed
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous())
        return agent

    links = [link for link in pair.parameters or () if link.candidate != CANDIDATE]
    return dataclasses.replace(
        pair, candidate=candidate, parameters=(*links, ParameterLink(REFERENCE, CANDIDATE, permute=(1, 0)))
    )


def judge(pair: Pair, kind: str) -> Result:
    numbers = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-12, "weight_decay": 0.1}
    example = {
        "weights": 0,
        "seed": 1,
        "sizes": "varied",
        "steps": 2,
        "accumulated": 1,
        "max_grad_norm": 0.5,
        "optimizer": {"type": kind, **numbers},
    }
    with judging():
        return replay(Session(pair), Cell(pair.name, "optimizer", "cpu", "float64"), example)


def test_adam_does_not_care_how_a_matrix_is_laid_out() -> None:
    assert judge(transposed_pair(), "adam").verdict.passed


def test_muon_steps_a_matrix_of_another_layout_otherwise_and_the_report_says_why() -> None:
    found = judge(transposed_pair(), "muon").divergence
    assert found is not None
    assert (found["component"], found["phase"], found["key"]) == ("fc1", "optimizer step", REFERENCE)
    assert found["cause"] == FUSED


def test_frozen_weights_of_both_sides_stay_out_of_it() -> None:
    pair = registered_pairs()["fast"]

    def frozen(build: Any) -> Any:
        def built(recipe: Recipe) -> nn.Module:
            agent = build(recipe)
            for name, parameter in agent.named_parameters():
                if "critic_1" in name:
                    parameter.requires_grad_(False)
            return agent

        return built

    pair = dataclasses.replace(pair, reference=frozen(pair.reference), candidate=frozen(pair.candidate))
    assert judge(pair, "adam").verdict.passed

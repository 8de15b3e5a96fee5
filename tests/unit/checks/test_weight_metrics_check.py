from __future__ import annotations

import dataclasses

import pytest

from parity.conditions import judging
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.results import Cell, Result
from parity.runner import Session, replay

VALUES = ("all zero", "all singular values equal")


def judge(pair: Pair, values: str) -> Result:
    """The first layer is a convolution, which the candidate keeps channels last."""
    example = {"weights": 0, "sizes": "varied", "delta": 0.1, "misuse": False, "marked": "every layer", "set": values}
    with judging():
        return replay(Session(pair), Cell("fast", "weight_metrics", "cpu", "float64"), example)


@pytest.mark.parametrize("values", VALUES)
def test_a_weight_may_lie_in_memory_in_any_order(values: str) -> None:
    result = judge(registered_pairs()["fast"], values)
    assert result.verdict.passed, result.divergence


def test_metrics_of_a_convolution_that_are_wrong_are_seen() -> None:
    fast = registered_pairs()["fast"]
    with planted(load_catalogues()["fast"].faults["effective_rank_off_by_one"].plant) as patcher:
        found = judge(dataclasses.replace(fast, fault_hooks=tuple(patcher.hooks)), VALUES[1]).divergence
    assert found is not None
    assert (found["component"], found["phase"], found["key"]) == ("cnn1", "metrics", "effective_rank")

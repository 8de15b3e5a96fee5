from __future__ import annotations

import pytest

from parity.conditions import judging
from parity.pairs.registry import registered_pairs
from parity.results import Cell
from parity.runner import Session, replay


@pytest.mark.parametrize("values", ["all zero", "all singular values equal"])
def test_a_weight_may_lie_in_memory_in_any_order(values: str) -> None:
    example = {"weights": 0, "sizes": "varied", "delta": 0.1, "misuse": False, "marked": "every layer", "set": values}
    with judging():
        result = replay(Session(registered_pairs()["fast"]), Cell("fast", "weight_metrics", "cpu", "float64"), example)
    assert result.verdict.passed, result.divergence

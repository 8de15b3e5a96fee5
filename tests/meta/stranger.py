"""A stranger's policy, to be misused in one way each: a pair of it, judged, and variants of its forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import parity
from parity.results import Result


class Good(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.pi, self.v = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.body(x))
        return self.pi(x), self.v(x)


def pair(candidate: Any = Good, reference: Any = Good, **options: Any) -> parity.Pair:
    given: dict[str, Any] = {"observations": parity.Observations((4,)), "actions": 3, **options}
    return parity.pair("mine", reference=reference, candidate=candidate, **given)


def judged(candidate: Any = Good, reference: Any = Good, *, check: str = "forward", **options: Any) -> Result:
    report = parity.judge(pair(candidate, reference, **options), checks=check, examples=1)
    assert report.exit_code != 0
    assert "Traceback" not in str(report)
    return report.results[0]


def variant(forward: Callable[[Any, Tensor], Any]) -> type[Good]:
    return type("Variant", (Good,), {"forward": forward})

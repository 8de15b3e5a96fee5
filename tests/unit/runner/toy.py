"""A toy pair and a toy check, to see the runner decide without any agent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import nn

from parity.agents.interface import AgentConfig, EnvironmentDescription, Feature
from parity.checks.case import Case
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.pairs.recipe import ComponentLink, Pair, Recipe
from parity.pairs.subjects import Subject
from parity.results import Cell

ENVIRONMENT = EnvironmentDescription(3, 3, 4, ("noop",), (0,), {"a": Feature(0)})
RECIPE = Recipe(AgentConfig(components={"first": {}, "last": {}}), ENVIRONMENT)
CELL = Cell("toy", "double", "cpu", "float64")


class Net(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(recipe.system.seed)
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.randn(value.shape, generator=generator))
        self.to(recipe.system.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


def toy_pair(candidate: Callable[[Recipe], nn.Module] = Net, reference: Callable[[Recipe], nn.Module] = Net) -> Pair:
    """A pair of two ``Net``s unless told otherwise."""
    return Pair(
        name="toy",
        recipe=RECIPE,
        reference=reference,
        candidate=candidate,
        components=(ComponentLink("first", "first", "first"), ComponentLink("last", "last", "last")),
        generate=lambda environment, *, rows, seed, noise=True: torch.zeros(rows, 4, 3, dtype=torch.uint8),
    )


def program(example: Example) -> Callable[[Subject, Trace], None]:
    """One forward pass on a batch of the drawn size."""

    def run(subject: Subject, trace: Trace) -> None:
        trace.record("output", subject.policy(subject.floats((example["rows"], 3), 1)))

    return run


def judge(case: Case, example: Example) -> None:
    """Compare one forward pass on fresh weights."""
    case.parity(program(example), case.builds.sides(case.recipe(), None), probe=example["probe"])


def toy_check(body: Callable[[Case, Example], None] = judge, needs: frozenset[str] = frozenset()) -> Check:
    """A check with a drawn batch size."""
    examples = st.fixed_dictionaries({"rows": st.integers(1, 8), "probe": st.booleans()})
    return Check("double", "a toy", lambda _p, _r: examples, body, ("float64", "float32"), needs)

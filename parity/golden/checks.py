"""Which checks a golden trace is made with: those that compare two runs, on what both are given.

Contracts hold a side against a property of its own and need no earlier run: ``run`` without a recording judges them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from parity.checks.case import Case
from parity.checks.catalogue import CHECKS
from parity.checks.draw import SEEDS, SIZES, sized
from parity.checks.initialization import record_weights
from parity.checks.registry import Check, Example, own_checks
from parity.golden.sides import OneSideBuilds, OneSideSession
from parity.pairs.recipe import Pair


def _fresh_weights(case: Case, example: Example) -> None:
    recipe = sized(case.recipe(seed=example["seed"]), case.pair, example["sizes"])
    sides = cast(OneSideBuilds, case.builds).fresh(recipe)
    case.parity(lambda subject, trace: record_weights(case, subject, trace), sides)


#: Whatever a pair's generators promise its other side, the same code gives the same bits from the same seed.
_INITIALIZATION = dataclasses.replace(
    CHECKS["initialization"],
    examples=lambda _pair, _recordings: st.fixed_dictionaries({"seed": SEEDS, "sizes": SIZES}),
    judge=_fresh_weights,
)

_COMPARING = ("fields", "forward", "actions", "memory", "gradients", "features", "training")


def golden_checks(pair: Pair) -> dict[str, Check]:
    """The checks by name, in the order in which they are judged; a user's own ones come last."""
    compared = {name: CHECKS[name] for name in _COMPARING}
    own = {name: check for name, check in own_checks().items() if check.applies(pair)}
    return {"initialization": _INITIALIZATION, **compared, **own}


def draw(check: Check, session: OneSideSession, *, examples: int, seed: int) -> list[Example]:
    """Draw examples of a check, the same ones every time; its share of them, and at least one."""
    drawn: list[Example] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=max(1, math.ceil(examples * check.share)),
        database=None,
        derandomize=False,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]  # its metaclass lists members
    )
    @given(check.examples(session.pair, session.recordings))
    def collect(example: Example) -> None:
        if example not in drawn:
            drawn.append(example)

    collect()
    return drawn

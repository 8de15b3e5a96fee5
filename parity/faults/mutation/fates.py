"""What becomes of a mutant: judged in a forked child, check by check, until one of them sees it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from parity.checks.catalogue import CHECKS
from parity.checks.draw import sized
from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.faults.children import ChildDied, ChildTimeout, in_child
from parity.faults.mutation.mutants import Mutant, NotPlanted, mutated
from parity.pairs.recipe import Pair
from parity.results import Cell, Result
from parity.runner import Session, run_cell

Kind = Literal["divergence", "crash", "timeout", "survived", "not planted"]

#: Checks that judge the platform or take seconds whatever they judge.
LEFT_OUT = frozenset({"compile", "distributed", "device", "throughput"})
#: The others by what one example costs, cheapest first; measured on `fast`: 0.04 s to 0.84 s.
BY_COST = (
    *("weight_metrics", "forward", "features", "gradients", "initialization", "actions", "memory", "metamorphic"),
    *("optimizer", "clipping", "construction", "fields", "training", "experience", "checkpoint", "configuration"),
)
SECONDS = 120.0
#: Contracts are asked of the candidate alone where one example of the pair with its smaller sizes is a first question:
#: nothing that is planted in the candidate touches the reference, and what both share shows on either. It can cost a
#: catch, never make one.
ALONE = ("candidate",)


@dataclass(frozen=True)
class Fate:
    """How one mutant ended.

    Attributes:
        mutant: its name.
        pair: the pair it was judged on.
        kind: ``divergence`` and ``crash`` are kills, ``timeout`` as well; a crash is anything that raised.
        check: the check that saw it, empty when none did.
        place: ``component / phase`` of the report.
        seconds: until then.
        reason: of what was not planted, or could not be judged.
    """

    mutant: str
    pair: str
    kind: Kind
    check: str = ""
    place: str = ""
    seconds: float = 0.0
    reason: str = ""

    @property
    def killed(self) -> bool:
        """Whether the checks saw it."""
        return self.kind in ("divergence", "crash", "timeout")


def fate(mutant: Mutant | None, pair: Pair, *, checks: Iterable[str] | None = None, seconds: float = SECONDS) -> Fate:
    """Judge one mutant in a child process, which takes all that the mutant broke with it.

    Args:
        mutant: see ``mutants_of``; None judges the original, which must survive, or no kill means anything.
        pair: the clean pair; nothing may have run ``backward`` in this process, or the child cannot.
        checks: in this order; by default all but for ``LEFT_OUT``, cheapest first.
        seconds: the child is killed after these.
    """
    names = by_cost() if checks is None else list(checks)
    started = time.perf_counter()
    found = Fate(_name(mutant), pair.name, "survived")
    try:
        found = Fate(**in_child(lambda: dataclasses.asdict(_judge(mutant, pair, names)), seconds))
    except ChildTimeout as error:
        found = dataclasses.replace(found, kind="timeout", reason=str(error))
    except ChildDied as error:
        found = dataclasses.replace(found, kind="crash", reason=str(error))
    return dataclasses.replace(found, seconds=time.perf_counter() - started)


def by_cost() -> list[str]:
    """Every check but for ``LEFT_OUT``, cheapest first; those whose cost nobody has measured come last."""
    names = [name for name in CHECKS if name not in LEFT_OUT]
    return sorted(names, key=lambda name: BY_COST.index(name) if name in BY_COST else len(BY_COST))


def smaller(pair: Pair) -> Pair:
    """The pair with the other sizes that it names, which are small: quicker, where one example is a first question."""
    return dataclasses.replace(pair, recipe=sized(pair.recipe, pair, "varied"))


def _name(mutant: Mutant | None) -> str:
    return "original" if mutant is None else mutant.name


def _judge(mutant: Mutant | None, pair: Pair, names: list[str]) -> Fate:
    found = Fate(_name(mutant), pair.name, "survived")
    try:
        with judging(profile="parity-ci"), mutated(mutant) if mutant is not None else nullcontext():
            session, small = Session(pair), Session(smaller(pair), ALONE)
            # most are seen by the first example of some check, whatever the sizes, and the narrow dtype sees little
            # that the wide one does not
            wide = [(name, CHECKS[name].dtypes[0]) for name in names]
            narrow = [(name, dtype) for name in names for dtype in CHECKS[name].dtypes[1:]]
            cells = [(small, *cell, 1) for cell in wide] + [(session, *cell, None) for cell in (*wide, *narrow)]
            for judged, name, dtype, examples in cells:
                cell = Cell(pair.name, name, "cpu", dtype)
                result = run_cell(judged, cell, shrink=False, max_examples=examples)
                if not result.verdict.passed:
                    return dataclasses.replace(found, **_kill(result))
    except NotPlanted as error:
        return dataclasses.replace(found, kind="not planted", reason=str(error))
    except Exception as error:  # a session that does not open
        return dataclasses.replace(found, kind="crash", reason=f"{type(error).__name__}: {error}")
    return found


def _kill(result: Result) -> dict[str, Any]:
    divergence = result.divergence or {}
    crashed = result.verdict is not Verdict.DIVERGENT or divergence["kind"] == "raised"
    place = f"{divergence['component']} / {divergence['phase']}" if divergence else ""
    return {
        "kind": "crash" if crashed else "divergence",
        "check": result.check,
        "place": place,
        "reason": result.reason,
    }

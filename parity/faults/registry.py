"""What a fault is, and the catalogue that entry points fill."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Literal

from parity.compare.verdict import Misuse
from parity.faults.mutation.mutants import Mutant
from parity.faults.plant import Patcher

Plant = Callable[[Patcher], None]


@dataclass(frozen=True)
class Fault:
    """One bug, declared before its first run.

    Args:
        name: short and unique.
        pair: the pair it is planted in.
        origin: where it happened: document, project or tracker.
        place: which side it is planted on; ``both`` for code that the sides share.
        check: the check that must catch it first.
        component, phase: where the report must pin it.
        plant: makes the change.
        raises: whether it shows as an error rather than as another value; an error that nobody declared may be the
            plant's own, which no longer fits the code.
    """

    name: str
    pair: str
    origin: str
    place: Literal["candidate", "reference", "both"]
    check: str
    component: str
    phase: str
    plant: Plant
    raises: bool = False


@dataclass(frozen=True)
class Control:
    """A harmless change: every check must stay green, but ``throughput`` where it costs the candidate something.

    Args:
        name: short and unique.
        pair: the pair it is planted in.
        why: why it changes no behaviour.
        plant: makes the change.
        slower: whether it takes time, or memory.
    """

    name: str
    pair: str
    why: str
    plant: Plant
    slower: bool = False


@dataclass(frozen=True)
class Equivalent:
    """Mutants that compute the same as the original.

    Args:
        mutants: a glob of names without their number: ``module:function:rule``.
        why: a reason that a reader can verify.
        before: a piece of the source that is changed, where a function has several that the rule changes.
    """

    mutants: str
    why: str
    before: str = ""

    def covers(self, mutant: Mutant) -> bool:
        """Whether the mutant is one of them."""
        name = mutant.name.rpartition(":")[0]
        return fnmatchcase(name, self.mutants) and self.before in mutant.before


class Catalogue:
    """Faults and controls of one package, filled by its decorators.

    Args:
        pair: the pair that they are planted in.
        sources: modules of whose source mutants are made, to be judged on that pair; for each the checks that judge
            them, in this order, or none for all. ``module:glob`` takes the functions of matching names only.
        equivalent: mutants that compute the same as the original.
    """

    def __init__(
        self,
        pair: str,
        *,
        sources: Mapping[str, tuple[str, ...]] | None = None,
        equivalent: Iterable[Equivalent] = (),
    ) -> None:
        self.pair, self.sources, self.equivalent = pair, dict(sources or {}), tuple(equivalent)
        self.faults: dict[str, Fault] = {}
        self.controls: dict[str, Control] = {}

    def fault(
        self,
        *,
        origin: str,
        check: str,
        component: str,
        phase: str,
        place: Literal["candidate", "reference", "both"] = "candidate",
        raises: bool = False,
    ) -> Callable[[Plant], Plant]:
        """Declare the decorated function, which plants it, as a fault named after the function."""

        def declare(plant: Plant) -> Plant:
            name = plant.__name__
            self._refuse_twice(name)
            self.faults[name] = Fault(name, self.pair, origin, place, check, component, phase, plant, raises)
            return plant

        return declare

    def control(self, *, why: str, slower: bool = False) -> Callable[[Plant], Plant]:
        """Declare the decorated function as a negative control."""

        def declare(plant: Plant) -> Plant:
            self._refuse_twice(plant.__name__)
            self.controls[plant.__name__] = Control(plant.__name__, self.pair, why, plant, slower)
            return plant

        return declare

    def source(self, module: str, function: str) -> str | None:
        """Which of the sources a function is of."""
        for source in self.sources:
            of, _, glob = source.partition(":")
            if of == module and fnmatchcase(function, glob or "*"):
                return source
        return None

    def why_equivalent(self, mutant: Mutant) -> str:
        """Why a mutant computes the same as the original; empty when it is not listed."""
        return next((entry.why for entry in self.equivalent if entry.covers(mutant)), "")

    def _refuse_twice(self, name: str) -> None:
        if name in self.faults or name in self.controls:
            raise Misuse(f"a fault or control named {name!r} is already declared for pair {self.pair!r}; rename one")


_by_hand: dict[str, Catalogue] = {}


def add_fault(
    pair: str,
    plant: Plant,
    *,
    origin: str,
    check: str,
    component: str,
    phase: str,
    place: Literal["candidate", "reference", "both"],
) -> None:
    """Declare a fault of a pair for this process; see ``Catalogue.fault``. A module may be imported twice."""
    catalogue = _by_hand.setdefault(pair, Catalogue(pair))
    held = catalogue.faults.get(plant.__name__)
    if held is not None and inspect.unwrap(held.plant).__code__ == inspect.unwrap(plant).__code__:
        del catalogue.faults[plant.__name__]
    catalogue.fault(origin=origin, check=check, component=component, phase=phase, place=place)(plant)


def load_catalogues() -> dict[str, Catalogue]:
    """Catalogues by pair, from the entry points of group ``parity.faults``, and those declared in this process."""
    return {**{point.name: point.load() for point in entry_points(group="parity.faults")}, **_by_hand}

"""One side of a pair as both of another, and its builds on weights that go through a tape."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from parity.checks.case import Case
from parity.compare.verdict import Divergence, DivergenceFound, Misuse, Rung
from parity.golden.tape import RecordingTape, Tape, TapedRecording, taped
from parity.pairs.builds import Builds, recipe_key
from parity.pairs.components import inferred_components
from parity.pairs.parameters import ParameterLink, ParameterMap
from parity.pairs.recipe import ComponentLink, Pair, Recipe, Recording
from parity.pairs.subjects import Sides, Subject
from parity.results import Cell
from parity.runner import Session

SIDES = ("reference", "candidate")


def one_side(pair: Pair, side: str, recorded: Mapping[str, str] | None = None) -> Pair:
    """A pair whose sides are both this one, as it was recorded and as it is.

    Args:
        pair: any pair.
        side: which of its sides.
        recorded: component -> module path as recorded; None while recording.
    """
    build, paths = getattr(pair, side), pair.paths(side)
    links = tuple(
        ComponentLink(name, (recorded or paths).get(name, path), path, pair.masks.get(name))
        for name, path in paths.items()
    )
    hooks = tuple(lambda _side, module, hook=hook: hook(side, module) for hook in pair.fault_hooks)
    return dataclasses.replace(
        pair, reference=build, candidate=build, components=links, parameters=None, fault_hooks=hooks
    )


class OneSideBuilds(Builds):
    """Builds of one side, on weights that a tape records or plays.

    Args:
        pair: from ``one_side``.
        renamed: parameter, or module above several, as recorded -> as it is called today, where the two differ.
    """

    moves_buffers = False  # a tape holds weights, and other code may hold other buffers
    tape: Tape | None = None  # None while nothing is recorded or judged yet

    def __init__(self, pair: Pair, renamed: Mapping[str, str]) -> None:
        super().__init__(pair)
        self._renamed = renamed

    def sides(self, recipe: Recipe, weights: int | None = 0) -> Sides:
        """The one side on what the tape gives; when recording, that is what any pair would be given."""
        if self.tape is None:
            return super().sides(recipe, weights)
        if isinstance(self.tape, RecordingTape):
            sides = super().sides(recipe, weights)
            self.tape.named("weights", lambda: dict(sides.reference.policy.named_parameters()))
            return sides
        values = self.tape.named("weights")
        return self._keep((recipe_key(recipe), self.tape.last), lambda: self._loaded(recipe, values))

    def fresh(self, recipe: Recipe) -> Sides:
        """The one side as it is built, on the weights it begins with."""
        sides = self._fresh(recipe)
        mine = dict(sides.reference.policy.named_parameters())
        assert self.tape is not None, "examples are judged on a tape"
        recorded = self.tape.named("fresh weights", lambda: mine)
        self._compare_parameters(recorded, {old: mine[new] for old, new in self._links(sides.reference).items()})
        return sides

    def build(self, side: str, recipe: Recipe) -> Subject:
        """Build the side; one that is not recorded gives its values under the names that were."""
        subject = super().build(side, recipe)
        links = self._links(subject)
        subject.to_reference = lambda values: {old: values[new] for old, new in links.items()}
        return subject

    def parameter_map(self, reference: torch.nn.Module, candidate: torch.nn.Module) -> ParameterMap:
        """Every parameter to itself."""
        return ParameterMap(tuple(ParameterLink(name, name) for name, _ in candidate.named_parameters()))

    def still(self, recorded: Mapping[str, str]) -> tuple[ComponentLink, ...]:
        """The recorded components that are modules today as well; nothing is run, for today's code may not."""
        policy = self.build("candidate", self.pair.recipe).policy
        today = {self._recorded_name(path): path for path, _ in policy.named_modules() if path}
        return tuple(ComponentLink(name, path, today[path]) for name, path in recorded.items() if path in today)

    def _recorded_name(self, today: str) -> str:
        """What a module of today was called, by what is said to be renamed."""
        for old, new in self._renamed.items():
            if today == new or today.startswith(f"{new}."):
                return old + today.removeprefix(new)
        return today

    def _fresh(self, recipe: Recipe) -> Sides:
        reference, candidate = self.build("reference", recipe), self.build("candidate", recipe)
        return Sides(reference, candidate, self.parameter_map(reference.policy, candidate.policy))

    def _links(self, subject: Subject) -> dict[str, str]:
        """Recorded name -> today's, for every parameter of today's.

        Raises:
            Misuse: what is said to be renamed is not there.
        """
        names = [name for name, _ in subject.policy.named_parameters()]
        links = {name: name for name in names}
        for old, new in self._renamed.items():
            found = [name for name in names if name == new or name.startswith(f"{new}.")]
            if not found:
                raise Misuse(f"--renamed {old}={new}: today's side has no parameter {new!r}, nor any below it")
            for name in found:
                del links[name]
                links[old + name.removeprefix(new)] = name
        return links

    def _loaded(self, recipe: Recipe, values: Mapping[str, Tensor]) -> Sides:
        sides = self._keep((recipe_key(recipe), None), lambda: self._make(recipe, None)).copy()
        links = self._links(sides.candidate)
        mine = dict(sides.candidate.policy.named_parameters())
        self._compare_parameters(values, {old: mine[new] for old, new in links.items()})
        with torch.no_grad():
            for old, value in values.items():
                mine[links[old]].copy_(value)
        sides.candidate.keep()
        return Sides(sides.candidate, sides.candidate, sides.parameters)

    def _compare_parameters(self, recorded: Mapping[str, Tensor], today: Mapping[str, Tensor]) -> None:
        """Every recorded parameter is there, of its shape, and there is no other.

        Raises:
            DivergenceFound: naming the first for which that does not hold, with what could be its new name.
        """
        added = [name for name in today if name not in recorded]
        for name, value in recorded.items():
            shape = tuple(value.shape)
            if name not in today:
                alike = [other for other in added if tuple(today[other].shape) == shape]
                hint = f"; was it renamed? then add --renamed {_renaming(name, alike[0])}" if len(alike) == 1 else ""
                others = f"it has {', '.join(added[:4])} instead" if added else "nothing came in its place"
                raise self._structural(name, f"present, {list(shape)}", "missing", f"{others}{hint}")
            if tuple(today[name].shape) != shape:
                raise self._structural(name, list(shape), list(today[name].shape), "its shape changed")
        if added:
            raise self._structural(
                added[0], "absent", f"present, {list(today[added[0]].shape)}", "the recorded side had no such parameter"
            )

    def _structural(self, name: str, recorded: object, today: object, note: str) -> DivergenceFound:
        return DivergenceFound(
            Divergence(
                kind="structure",
                phase="build",
                component=self.pair.home(name),
                key=name,
                reference=recorded,
                candidate=today,
                rung=Rung.BITS,
                notes=(f"{note}; no weights can be loaded, so nothing behind this was judged",),
            )
        )


def _renaming(old: str, new: str) -> str:
    """``OLD=NEW`` less what both end with, for a module that was renamed takes all of its parameters along."""
    first, second = old.split("."), new.split(".")
    while len(first) > 1 and len(second) > 1 and first[-1] == second[-1]:
        first.pop()
        second.pop()
    return f"{'.'.join(first)}={'.'.join(second)}"


class OneSideSession(Session, ABC):
    """A pair of one side, ready to record or to be judged by a recording; the tape is changed at every example.

    Args:
        pair: from ``one_side``.
        side: which of the pair's sides that is.
        renamed: as ``OneSideBuilds`` takes it.
        recorded: component -> module path as recorded; None while recording.

    Raises:
        Misuse: the side returns the same module twice, or cannot be run to find its components.
    """

    def __init__(
        self,
        pair: Pair,
        side: str,
        renamed: Mapping[str, str] | None = None,
        recorded: Mapping[str, str] | None = None,
    ) -> None:
        def tape() -> Tape:
            assert self.builds.tape is not None, "examples are judged on a tape"
            return self.builds.tape

        self.builds = OneSideBuilds(pair, renamed or {})
        if pair.described:
            self.builds.require_fresh()
        if pair.infer_components:
            found = inferred_components(self.builds, who=side) if recorded is None else self.builds.still(recorded)
            self.builds.pair = pair = dataclasses.replace(pair, components=found)
        self.pair = dataclasses.replace(pair, generate=taped(pair.generate, tape))
        self.recordings: dict[str, Recording] = {
            recording.name: TapedRecording(recording, tape) for recording in pair.recordings()
        }

    @abstractmethod
    def case(self, cell: Cell) -> Case:
        """A case that keeps what it sees, or one that expects what was kept."""

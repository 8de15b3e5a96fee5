"""A case: one pair, check, dtype and device being judged; what check bodies use to run both sides and compare."""

from __future__ import annotations

import dataclasses
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from parity.checks.raising import NOT_TO_BLAME, blamed
from parity.compare.blame import ComponentPair, blame_backward, blame_forward, defined_at
from parity.compare.bounds import same_bits
from parity.compare.judge import Outcome, judge
from parity.compare.probes import Call, Probes
from parity.compare.reruns import Rerun
from parity.compare.trace import Trace, comparable_probes
from parity.compare.verdict import Divergence, DivergenceFound, Inconclusive, Misuse, Rung
from parity.compare.watched import watched_of
from parity.conditions import seed_global
from parity.leaving import left, staying
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair, Recipe, Recording
from parity.pairs.subjects import Sides, Subject

#: Seed of the random stream that every run starts from; any number would do.
STREAM = 20_240_817

#: The sides, in the order in which they are judged.
BOTH = ("reference", "candidate")

Program = Callable[[Subject, Trace], None]
"""Runs one subject and records what it does; runs the same way on every subject."""


@dataclass
class Run:
    """What one run of one side let us observe: the trace, and what each component was called with."""

    trace: Trace
    calls: list[Call]


@dataclass(frozen=True)
class Expectation:
    """The reference's run of a program, and what its rounding is measured by, see ``judge``."""

    run: Run
    rerun: Rerun
    wide: Callable[[], Trace]


class _Raised(Exception):
    """A program raised; ``trace`` holds what was recorded until then."""

    def __init__(self, error: Exception, trace: Trace, component: str) -> None:
        super().__init__(str(error))
        self.error, self.trace, self.component = error, trace, component


@dataclass
class Case:
    """The state of judging one cell; a new one for each example, over shared builds."""

    pair: Pair
    builds: Builds
    dtype: torch.dtype
    device: str
    recordings: dict[str, Recording]
    contracts_on: tuple[str, ...] = BOTH  # sides that are judged each by itself
    outcome: Outcome = field(default_factory=Outcome)
    sequence: tuple[int, int] | None = None  # rows and steps of what is run, where it has both
    _outputs: bool = True  # whether probes record outputs of components
    recorded: bool = False  # whether the last program recorded anything
    _runs: dict[Hashable, tuple[Subject, Run]] = field(default_factory=dict)

    def recipe(self, environment: EnvironmentDescription | None = None, **system: Any) -> Recipe:
        """The pair's recipe in this case's dtype and on its device, for another environment or seed if given."""
        recipe = self.pair.recipe.with_system(dtype=self.dtype, device=self.device, **system)
        return dataclasses.replace(recipe, environment=environment) if environment is not None else recipe

    def parity(
        self,
        program: Program,
        sides: Sides,
        *,
        probe: bool = False,
        pin: Callable[[Divergence], Program] | None = None,
        chosen: Callable[[Trace], None] | None = None,
    ) -> None:
        """Run ``program`` on both sides and judge the candidate's trace by the reference's.

        With ``probe``, component outputs (and gradients) are compared as well, and an unprobed run of each side must
        give the same bits; in float64, for what watching does is no matter of the dtype. Without it, probes come in
        only to pin a divergence; ``pin`` makes the program for that, where it is another. ``chosen`` is given the
        reference's trace before anything else runs, where what it chose at random is repeated by the others.

        Raises:
            DivergenceFound: with the first divergence, pinned.
            Misuse: the reference raised, or probing changed a value.
        """
        probe = self._begin(probe)
        outcome, runs = self._compare(program, sides, probe, chosen)
        self.recorded = bool(runs["reference"].trace.without_probes().entries)
        if probe and self.dtype == torch.float64:
            self._prove_non_interference(program, sides, runs)
        if outcome.divergence is not None and not (probe and self._outputs):
            self._outputs = True
            closer = program if pin is None else pin(outcome.divergence)
            pinned, probed_runs = self._compare(closer, sides, True)
            if pinned.divergence is not None:
                pinned.trajectory = outcome.trajectory  # the closer look is at one update alone
                outcome, runs = pinned, probed_runs
        self.outcome.absorb(outcome)
        if outcome.divergence is not None:
            self._raise(self._blame(outcome.divergence, sides, runs), sides)

    def _begin(self, probe: bool) -> bool:
        """Whether probes are in from the beginning: inferred components only pin, values that a user watches decide."""
        self._outputs = not self.pair.infer_components
        return probe and (self._outputs or bool(watched_of(self.pair.name)))

    def contract(self, expected: Program, actual: Program, sides: Sides, *, cause: str = "") -> None:
        """Judge each side against a property of its own: what ``actual`` records must be what ``expected`` records.

        Raises:
            DivergenceFound: ``side`` tells which side deviates, ``both`` when both do at the same place.
        """
        found: dict[str, Divergence] = {}
        for subject in self._under_contract(sides):
            try:
                base = self._run(expected, subject, probe=False)
                run = self._run(actual, subject, probe=False)
            except _Raised as raised:
                found[subject.side] = self._raised(raised, subject)
                continue
            outcome = judge(
                base.trace,
                run.trace,
                rerun=lambda number, s=subject: self._run(expected, s, probe=False, twin=number).trace,
                rerun_candidate=lambda number, s=subject: self._run(actual, s, probe=False, twin=number).trace,
                wide=lambda s=subject: self._run(expected, self.builds.wide(s), probe=False).trace,
            )
            if outcome.divergence is not None:
                found[subject.side] = outcome.divergence
            else:
                outcome.trajectory = None  # the two are one training, not two
                self.outcome.absorb(outcome)
        self._report(found, cause, sides)

    def facts(self, observe: Callable[[Subject], dict[str, Any]], expected: dict[str, Any], sides: Sides,
              *, phase: str, component: str = "", cause: str = "") -> None:  # fmt: skip
        """Judge plain facts of each side against expected values, key by key.

        ``component`` overrides the place that a divergence names; by default it is the key.
        """
        found: dict[str, Divergence] = {}
        for subject in self._under_contract(sides):
            try:
                with _quiet(subject), staying(f"the {subject.side}, in phase {phase!r},"):
                    actual = observe(subject)
            except (DivergenceFound, Inconclusive, Misuse):
                raise
            except Exception as error:
                trace = Trace()
                trace.phase = phase
                where = component or self._raising_component(observe, subject)
                found[subject.side] = self._raised(_Raised(error, trace, where), subject)
                continue
            for key, value in expected.items():
                if actual.get(key) != value:
                    found[subject.side] = Divergence(
                        kind="fact",
                        phase=phase,
                        component=component or key,
                        key=key,
                        reference=value,
                        candidate=actual.get(key),
                        rung=Rung.BITS,
                    )
                    break
        self._report(found, cause, sides)

    def _under_contract(self, sides: Sides) -> list[Subject]:
        return [getattr(sides, side) for side in self.contracts_on]

    def _raising_component(self, observe: Callable[[Subject], Any], subject: Subject) -> str:
        """Observe once more with probes, which also sit on copies of the subject.

        Returns:
            The component that raises, or else the first that gave NaN; empty when there is none.
        """
        subject = subject.copy()
        probes = Probes(subject.policy, self.pair.paths(subject.side), Trace())
        with _quiet(subject), probes, suppress(Exception):
            observe(subject)
        if probes.active:
            return probes.active[-1]
        return next((call.component for call in probes.calls if call.gave_nan), "")

    def _report(self, found: dict[str, Divergence], cause: str, sides: Sides) -> None:
        """Raise what contract checks found, preferring the candidate and saying so when both sides deviate alike."""
        if not found:
            return
        side, divergence = next(reversed(found.items()))
        if len(found) == 2:
            first, second = found.values()
            if (first.component, first.key, first.phase) == (second.component, second.key, second.phase):
                side = "both"
        note = {
            "both": "both sides deviate here from what the contract asks: the fault is shared",
            "reference": "it is the reference that deviates from what the contract asks",
            "candidate": "judged against the contract, not against the other side",
        }[side]
        divergence = dataclasses.replace(
            divergence, side=side, cause=cause or divergence.cause, notes=(*divergence.notes, note)
        )
        self._raise(divergence, sides)

    def _raise(self, divergence: Divergence, sides: Sides) -> NoReturn:
        subject = sides.reference if divergence.side == "reference" else sides.candidate
        path = self.pair.paths(subject.side).get(divergence.component)
        source = defined_at(subject.policy, path, NOT_TO_BLAME) if path else ""
        self.outcome.divergence = dataclasses.replace(divergence, source=source)
        raise DivergenceFound(self.outcome.divergence)

    def forget(self) -> None:
        """Let go of all runs."""
        self._runs.clear()

    def _compare(
        self, program: Program, sides: Sides, probe: bool, chosen: Callable[[Trace], None] | None = None
    ) -> tuple[Outcome, dict[str, Run]]:
        expected = self._expect(program, sides, probe)
        reference = expected.run
        if chosen is not None:
            chosen(reference.trace)
        try:
            candidate = self._run(program, sides.candidate, probe)
        except _Raised as raised:
            return self._before(raised, expected, sides), {"reference": reference}
        mine, theirs = reference.trace, candidate.trace
        if probe and self.pair.infer_components:
            mine, theirs = comparable_probes(mine, theirs)
        outcome = judge(mine, theirs, rerun=expected.rerun, wide=expected.wide)
        return outcome, {"reference": reference, "candidate": candidate}

    def _expect(self, program: Program, sides: Sides, probe: bool) -> Expectation:
        """Run the reference."""
        try:
            reference = self._run(program, sides.reference, probe)
        except _Raised as raised:
            raise Misuse(
                f"the reference raised {type(raised.error).__name__} in phase {raised.trace.phase!r}: {raised.error}; "
                "a pair needs a reference that runs on every legal input"
            ) from raised.error
        return Expectation(
            reference,
            rerun=lambda number: self._run(program, sides.reference, probe, twin=number).trace,
            wide=lambda: self._run(program, self.builds.wide(sides.reference), probe).trace,
        )

    def _before(self, raised: _Raised, expected: Expectation, sides: Sides) -> Outcome:
        """What differs before the candidate raises is nearer to the cause than the place where it raises."""
        crash = self._raised(raised, sides.candidate)
        until = Trace()
        until.entries = {place: e for place, e in expected.run.trace if place in raised.trace.entries}
        outcome = judge(until, raised.trace, rerun=expected.rerun, wide=expected.wide)
        if outcome.divergence is None:
            return Outcome(divergence=crash)
        note = f"later it {crash.candidate}"
        return Outcome(divergence=dataclasses.replace(outcome.divergence, notes=(*outcome.divergence.notes, note)))

    def _run(self, program: Program, subject: Subject, probe: bool, *, twin: int | None = None) -> Run:
        """Run a copy of the subject, or an ulp-moved twin, from fixed random state: all runs see the same stream.

        A run that nothing watches is kept: several contracts of one example may start from the same expectation.
        """
        if probe:
            return self._run_anew(program, subject, probe, twin)
        key = program, id(subject), twin
        if key not in self._runs:
            self._runs[key] = subject, self._run_anew(program, subject, probe, twin)
        return self._runs[key][1]

    def _run_anew(
        self, program: Program, subject: Subject, probe: bool, twin: int | None, *, copy: bool = False
    ) -> Run:
        original, trace = subject, Trace()
        trace.sequence = self.sequence
        subject = subject.copy() if twin is None else subject.twin(twin)
        paths = self.pair.paths(subject.side) if probe else {}
        watched = watched_of(self.pair.name) if probe else ()
        probes = Probes(subject.policy, paths, trace, copy=copy, masks=self.pair.masks, watched=watched,
                        outputs=self._outputs)  # fmt: skip
        with _quiet(subject), probes:
            trace.probes = probes
            try:
                program(subject, trace)
            except SystemExit as error:
                raise Misuse(f"the {subject.side}, in phase {trace.phase!r}, {left(error)}") from error
            except (DivergenceFound, Inconclusive, Misuse):
                raise
            except Exception as error:
                raise _Raised(error, trace, probes.active[-1] if probes.active else "") from error
        if probes.stale:  # something was written into in place: keep copies this time
            return self._run_anew(program, original, probe, twin, copy=True)
        return Run(trace, probes.calls)

    def _raised(self, raised: _Raised, subject: Subject) -> Divergence:
        frames = traceback.extract_tb(raised.error.__traceback__)
        frame = blamed(frames)
        component = raised.component or getattr(raised.error, "component", "")
        return Divergence(
            kind="raised",
            phase=raised.trace.phase,
            component=component or frame.name,
            key=type(raised.error).__name__,
            side=subject.side,
            candidate_component=self.pair.paths(subject.side).get(component, ""),
            step=raised.trace.step,
            update=raised.trace.update,
            minibatch=raised.trace.minibatch,
            reference="completes",
            candidate=f"raises {type(raised.error).__name__}: {raised.error}",
            rung=Rung.BITS,
            notes=(f"raised in {frame.name} ({frame.filename.rpartition('/')[2]}, line {frame.lineno})",),
        )

    def _prove_non_interference(self, program: Program, sides: Sides, runs: dict[str, Run]) -> None:
        for side, run in runs.items():
            if side not in self.contracts_on:
                continue
            bare = self._run(program, getattr(sides, side), probe=False).trace
            watched = run.trace.without_probes()
            for place, entry in watched:
                other = bare.entries.get(place)
                same = other is not None and (
                    same_bits(entry.value, other.value)
                    if isinstance(entry.value, Tensor) and isinstance(other.value, Tensor)
                    else entry.value == other.value
                )
                if not same:
                    raise Misuse(
                        f"probing the {side} changed {place.phase} / {place.component} / {place.key}; a component must "
                        "not depend on being watched, so nothing was judged"
                    )

    def _blame(self, divergence: Divergence, sides: Sides, runs: dict[str, Run]) -> Divergence:
        if divergence.kind == "raised" or "candidate" not in runs or divergence.component not in self._names:
            return divergence
        components = self._components(sides)
        if divergence.phase == "backward":
            later = list(reversed(self._names[self._names.index(divergence.component) + 1 :]))
            if not divergence.key.startswith("gradient of output"):
                later = []  # a parameter's own gradient is wrong while the gradient at its output is right
            return blame_backward(divergence, components, runs["reference"].calls, later)
        return blame_forward(divergence, components, runs["reference"].calls, runs["candidate"].calls)

    @property
    def _names(self) -> list[str]:
        return [link.name for link in self.pair.components]

    def _components(self, sides: Sides) -> dict[str, ComponentPair]:
        mine, theirs = sides.reference.copy().policy, sides.candidate.copy().policy
        return {
            link.name: ComponentPair(link.name, _at(mine, link.reference), _at(theirs, link.candidate), link.candidate)
            for link in self.pair.components
        }


@contextmanager
def _quiet(subject: Subject) -> Iterator[None]:
    """Fixed random state, put back afterwards; the subject's warnings are its own affair."""
    devices = [subject.device] if subject.device != "cpu" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_global(STREAM)
        yield


def _at(module: nn.Module, path: str) -> nn.Module:
    return module.get_submodule(path)

"""Recording one side: every golden check on drawn examples, with all that judging will need when this code is gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from parity.checks.case import Case, Program, Run
from parity.checks.registry import Check, Example
from parity.compare.bounds import BOUNDS
from parity.compare.probes import Call, pull_back
from parity.compare.reruns import distances, is_native
from parity.compare.trace import Trace
from parity.compare.verdict import Divergence, Inconclusive, Misuse
from parity.compare.watched import watched_of
from parity.conditions import judging
from parity.golden.checks import draw, golden_checks
from parity.golden.encoding import Recorded, encode_run
from parity.golden.sides import OneSideSession, one_side
from parity.golden.store import Keep
from parity.golden.tape import RecordingTape
from parity.leaving import staying
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_names
from parity.pairs.subjects import Sides
from parity.platform_info import platform_info
from parity.results import Cell
from parity.runner import DTYPES
from parity.time_limit import OutOfTime, limited

#: Examples of a check with a share of 1. Few: a file of ten thousand tensors helps nobody.
EXAMPLES = 3


@dataclass
class Written:
    """What a recording came to."""

    path: Path
    cells: list[Cell]
    examples: int
    size: int


def record(
    pair: Pair,
    side: str,
    path: Path,
    *,
    checks: str = "*",
    examples: int = EXAMPLES,
    seed: int = 0,
    origin: Mapping[str, str] | None = None,
    tell: Callable[[Cell], None] = lambda cell: None,
) -> Written:
    """Record one side of a pair.

    Args:
        pair: the pair.
        side: ``reference`` or ``candidate``.
        path: the file, written whole or not at all.
        checks: glob of golden checks; those whose needs the pair does not declare are left out.
        examples: of a check with a share of 1.
        seed: draws them.
        origin: where the code comes from, for whoever reads the file.
        tell: is told each cell before it is recorded.

    Raises:
        Misuse: no check is left, or the side cannot run an example; the message names check and example.
        ReportError: the file cannot be written.
    """
    known = golden_checks(pair)
    names = select_names(checks, known, "golden check")
    chosen = [known[name] for name in names if known[name].needs <= pair.capabilities]
    if not chosen:
        raise Misuse(f"pair {pair.name!r} declares none of the capabilities that {checks!r} needs: nothing to record")
    keep, cells, entries = Keep(), [], []
    with judging():
        with _within_limit(pair, "the pair"):
            session = _RecordingSession(pair, side, keep)
        for check in chosen:
            session.builds.tape = RecordingTape(keep)  # what drawing asks for is not part of any example
            drawn = draw(check, session, examples=examples, seed=seed)
            for dtype in check.dtypes:
                cell = Cell(pair.name, check.name, "cpu", dtype)
                tell(cell)
                with _within_limit(pair, str(cell)):
                    found = [session.record(check, cell, example) for example in drawn]
                cells.append(cell)
                entries.append({"check": check.name, "dtype": dtype, "examples": found})
        platform = platform_info()
    session.builds.forget()
    description = {
        "pair": pair.name,
        "side": side,
        "seed": seed,
        "components": session.pair.paths("candidate"),
        "inferred": pair.infer_components,
        "watched": [watched.name for watched in watched_of(pair.name)],
        "origin": dict(origin or {}),
        "platform": platform,
        "cells": entries,
    }
    size = keep.write(path, description)
    return Written(path, cells, sum(len(entry["examples"]) for entry in entries), size)


@contextmanager
def _within_limit(pair: Pair, what: str) -> Iterator[None]:
    """End what takes longer than the pair's limit, and keep it from ending the process."""
    try:
        with limited(pair.time_limit), staying(f"the code of {what}"):
            yield
    except OutOfTime as error:
        raise Misuse(f"{what} cannot be recorded: {error}; {OutOfTime.REMEDY}") from error


class _RecordingSession(OneSideSession):
    def __init__(self, pair: Pair, side: str, keep: Keep) -> None:
        super().__init__(one_side(pair, side), side)
        self._keep = keep

    def case(self, cell: Cell) -> _RecordingCase:
        """A case that keeps what it sees."""
        case = _RecordingCase(self.pair, self.builds, DTYPES[cell.dtype], "cpu", self.recordings)
        case.keep = self._keep
        return case

    def record(self, check: Check, cell: Cell, example: Example) -> dict[str, Any]:
        """Everything about one example in one dtype, JSON-able."""
        self.builds.tape = tape = RecordingTape(self._keep)
        case = self.case(cell)
        try:
            check.judge(case, example)
        except (Misuse, Inconclusive) as error:
            raise Misuse(f"{cell} cannot be recorded: {error} (example {example})") from error
        finally:
            case.forget()
        return {"example": example, "given": tape.items, "runs": case.kept}


@dataclass
class _RecordingCase(Case):
    """Runs one side and keeps what it sees; compares nothing."""

    keep: Keep = dataclasses.field(default_factory=Keep)
    kept: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def parity(
        self,
        program: Program,
        sides: Sides,
        *,
        probe: bool = False,
        pin: Callable[[Divergence], Program] | None = None,
        chosen: Callable[[Trace], None] | None = None,
    ) -> None:
        """Keep the run that is compared, and those that would pin a divergence."""
        probe = self._begin(probe)
        run = self._expect(program, sides, probe).run
        self.recorded = bool(run.trace.without_probes().entries)
        if chosen is not None:
            chosen(run.trace)
        entry = {"run": self._encoded(run, program, sides, probe), "pins": []}
        if not (probe and self._outputs):
            self._outputs = True
            updates = list(dict.fromkeys(place.update for place in run.trace.entries)) if pin is not None else [None]
            for update in updates:
                closer = program if pin is None else pin(_at_update(update))
                seen = self._expect(closer, sides, True).run
                entry["pins"].append([update, self._encoded(seen, closer, sides, True)])
        self.kept.append(entry)

    def contract(self, *_: Any, **__: Any) -> None:
        """Nothing: it needs no earlier run."""

    def facts(self, *_: Any, **__: Any) -> None:
        """Nothing: they need no earlier run."""

    def _encoded(self, run: Run, program: Program, sides: Sides, probe: bool) -> dict[str, Any]:
        wide, native = None, is_native(run.trace)
        judged = {entry.judged for _, entry in run.trace}
        if native:
            wide = self._run(program, self.builds.wide(sides.reference), probe).trace
        all_noisy = native and "ensemble" not in judged
        reruns = []
        for number in range(BOUNDS.noise_reruns if all_noisy else BOUNDS.float64_reruns):
            moved = self._run(program, sides.reference, probe, twin=number).trace
            reruns.append(distances(run.trace, moved, wide))
        components = self._components(sides)
        pulled = {
            number: _pulled(components[call.component].reference, call)
            for number, call in enumerate(run.calls)
            if call.gradients
        }
        return encode_run(Recorded(run, reruns, wide, pulled), self.keep)


def _pulled(module: nn.Module, call: Call) -> dict[int, Tensor]:
    """Gradients of a call's inputs; none where a foreign module cannot be called outside of its policy."""
    try:
        return pull_back(module, call.inputs, call.gradients, call.keywords)[0]
    except Exception:  # then this component is not looked into, should a gradient differ
        return {}


def _at_update(update: int | None) -> Divergence:
    return Divergence(kind="value", phase="", component="", key="", update=update)

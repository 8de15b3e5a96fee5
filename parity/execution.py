"""Executing cells: what the suite and the command line share, so that both come to the same results."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from parity.checks.registry import Check, Example
from parity.compare.verdict import Misuse, Verdict
from parity.conditions import judging
from parity.leaving import staying
from parity.pairs.recipe import Pair
from parity.report.cases import reproduce_command, store_case
from parity.results import Cell, Result
from parity.runner import Session, replay, run_cell
from parity.time_limit import OutOfTime, limited


class Executor:
    """Judges cells under the same conditions, shares one Session per pair, and stores the case of each failure.

    Args:
        cases: folder for stored cases.
        profile: hypothesis profile; None keeps a chosen one and otherwise takes ``parity-ci``.
        weights: pair -> reference weights to judge it on, wherever they fit, instead of stress weights.
    """

    def __init__(
        self, cases: Path, *, profile: str | None = None, weights: Mapping[str, dict[str, Tensor]] | None = None
    ) -> None:
        self._cases = cases
        self._profile = profile
        self._sessions: dict[str, Session] = {}
        self._broken: dict[str, str] = {}  # pair -> why it cannot be opened
        self._weights = dict(weights or {})
        _keep_imports()

    def run(self, pair: Pair, cell: Cell, *, threads: int = 1, **options: Any) -> Result:
        """Judge one cell on drawn examples, with so many torch threads; ``options`` are those of ``run_cell``.

        Raises:
            ReportError: the case of a failure could not be stored.
        """
        result = self._within_limit(pair, cell, lambda session: run_cell(session, cell, **options), threads)
        if result.verdict.passed:
            return result
        case = store_case(result, self._cases)
        return dataclasses.replace(result, reproduce=reproduce_command(result, case, source=pair.source))

    def replay(self, pair: Pair, cell: Cell, example: Example, stored: Path, *, check: Check | None = None) -> Result:
        """Judge one cell on the example that was stored in a file."""
        result = self._within_limit(pair, cell, lambda session: replay(session, cell, example, check=check))
        return dataclasses.replace(result, reproduce=reproduce_command(result, stored, source=pair.source))

    def weights_used(self, pair: str) -> dict[str, int]:
        """How many builds of a pair were made on given weights, and how many on stress weights."""
        return self._sessions[pair].builds.used if pair in self._sessions else {"given": 0, "stress": 0}

    def _within_limit(self, pair: Pair, cell: Cell, run: Callable[[Session], Result], threads: int = 1) -> Result:
        try:
            with judging(cell.device, profile=self._profile, threads=threads), limited(pair.time_limit):
                session = self._open(pair, cell)
                return session if isinstance(session, Result) else run(session)
        except OutOfTime as error:
            reason = f"{error}; {error.REMEDY}"
            if pair.name not in self._sessions:  # it hung while it was built, as it would for every other check
                self._broken[pair.name] = f"pair {pair.name!r} cannot be opened: {reason}"
            return unjudged(cell, Verdict.INCONCLUSIVE, reason)

    def _open(self, pair: Pair, cell: Cell) -> Session | Result:
        """The pair's session, or the cell's result when the pair cannot be opened at all."""
        if pair.name in self._broken:
            return unjudged(cell, Verdict.ERROR, self._broken[pair.name])
        for name, session in self._sessions.items():
            if name != pair.name:  # cells come pair by pair, and builds take hundreds of megabytes
                session.builds.forget()
        if pair.name not in self._sessions:
            try:
                with staying(f"a side of pair {pair.name!r}"):
                    self._sessions[pair.name] = Session(pair)
                self._sessions[pair.name].builds.given = self._weights.get(pair.name)
            except Exception as error:  # recordings come from foreign code and files
                named = "" if isinstance(error, Misuse) else f"{type(error).__name__}: "
                self._broken[pair.name] = f"pair {pair.name!r} cannot be opened: {named}{error}"
                return unjudged(cell, Verdict.ERROR, self._broken[pair.name])
        return self._sessions[pair.name]


@cache
def _keep_imports() -> None:
    """Spare what was imported by now from garbage collection: walking over it took a tenth of a run.

    Once per process: later there may be garbage, gigabytes of policies, that would be kept for good.
    """
    gc.freeze()


def unjudged(cell: Cell, verdict: Verdict, reason: str) -> Result:
    """The result of a cell that was not judged at all, with the reason."""
    return Result(**vars(cell), verdict=verdict, rung=None, margin=0.0, examples=0, seconds=0.0, reason=reason)

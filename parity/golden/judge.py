"""Judging today's code by a recording: the same programs on the same inputs and weights, through the same ladder."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parity.checks.case import Case, Expectation, Program, Run
from parity.compare.blame import ComponentPair
from parity.compare.trace import Trace
from parity.compare.verdict import RUNG_ORDER, Divergence, Inconclusive, Misuse, Rung, Verdict
from parity.compare.watched import watched_of
from parity.conditions import judging
from parity.execution import unjudged
from parity.golden.checks import golden_checks
from parity.golden.encoding import decode_run
from parity.golden.sides import SIDES, OneSideSession, one_side
from parity.golden.store import Kept
from parity.golden.tape import PlayedTape
from parity.leaving import staying
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_names
from parity.pairs.subjects import Sides
from parity.platform_info import versions
from parity.report.files import ReportError, require
from parity.results import Cell, Result
from parity.runner import DTYPES, replay
from parity.time_limit import OutOfTime, limited

_WHAT = "a golden trace of parity"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "pair": str,
    "side": str,
    "components": dict,
    "inferred": bool,
    "watched": list,
    "origin": dict,
    "platform": dict,
    "cells": list,
}


class Recording:
    """A golden trace, fit to judge a pair by.

    Args:
        path: the file.
        pair: today's pair.

    Raises:
        ReportError: the file cannot be used.
        Misuse: it is of another pair, or of components that today's pair does not declare.
    """

    def __init__(self, path: Path, pair: Pair) -> None:
        self.kept = Kept(path)
        self.content: dict[str, Any] = self.kept.description
        require(self.content, _FIELDS, path, _WHAT)
        if self.content["side"] not in SIDES:
            raise ReportError(f"{path} is not {_WHAT}: it is of side {self.content['side']!r}, neither of {SIDES}")
        if self.content["pair"] != pair.name:
            raise Misuse(
                f"{path} is a recording of pair {self.content['pair']!r}, not of {pair.name!r}; name that pair, or "
                f"give a recording of {pair.name!r}"
            )
        self.path, self.side = path, self.content["side"]
        self.components: dict[str, str] = self.content["components"]
        self._require_same_kind(pair)
        today = pair.paths(self.side)
        wanted = () if pair.infer_components else self.components  # one that was only inferred may be gone
        missing = next((name for name in wanted if name not in today), None)
        if missing is not None:
            near = difflib.get_close_matches(missing, today, n=1)
            hint = f"is it {near[0]!r} now?" if near else f"it declares {', '.join(today) or 'none'}"
            raise Misuse(
                f"{path} recorded component {missing!r}, which pair {pair.name!r} does not declare today; {hint} Give "
                "the component its old name (a link's name stays while its path may change), or record again with the "
                "old code"
            )

    def _require_same_kind(self, pair: Pair) -> None:
        if self.content["inferred"] != pair.infer_components:
            was, now = ("inferred", "declares them") if self.content["inferred"] else ("declared", "infers them")
            raise Misuse(
                f"{self.path} was recorded with components {was}, and pair {pair.name!r} {now} today; record again "
                "with the old code, described as it is today"
            )
        watched = [watched.name for watched in watched_of(pair.name)]
        if sorted(self.content["watched"]) != sorted(watched):
            was = ", ".join(self.content["watched"]) or "none"
            raise Misuse(
                f"{self.path} was recorded with probes: {was}; pair {pair.name!r} has today: "
                f"{', '.join(watched) or 'none'}; record again with the old code and the probes of today"
            )

    def describe(self) -> str:
        """One line: what was recorded, from which code, and what was installed other than today."""
        revision = self.content["origin"].get("revision", "")
        before = self.content["platform"].get("versions", {})
        moved = [f"{name} {before.get(name)} -> {now}" for name, now in versions().items() if before.get(name) != now]
        line = (
            f"before: {self.side} of {self.content['pair']}{f' at {revision}' if revision else ''}; after: today's code"
        )
        return line + (f" (recorded with other versions: {', '.join(moved)})" if moved else "")


def judge_by(
    recording: Recording,
    pair: Pair,
    *,
    checks: str = "*",
    renamed: Mapping[str, str] | None = None,
    reproduce: str = "",
    starts: Callable[[int, Cell], None] = lambda planned, cell: None,
    ended: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Judge today's code, cell by cell as recorded.

    Args:
        recording: what is expected.
        pair: today's pair; the side that was recorded is judged.
        checks: glob of recorded checks.
        renamed: parameter as recorded -> as it is called today.
        reproduce: the command that judges again, without its ``--check``.
        starts: is told how many cells there are, and each before it is judged.
        ended: is told each result.

    Raises:
        Misuse: nothing of the kind was recorded, or what was renamed is not there.
    """
    entries = recording.content["cells"]
    names = select_names(checks, dict.fromkeys(entry["check"] for entry in entries), "recorded check")
    entries = [entry for entry in entries if entry["check"] in names]
    results = []
    with judging():
        try:
            with limited(pair.time_limit), staying(f"a side of pair {pair.name!r}"):
                session = _JudgingSession(pair, recording, renamed or {})
        except OutOfTime as error:
            raise Misuse(f"pair {pair.name!r} cannot be opened: {error}; {error.REMEDY}") from error
        for entry in entries:
            cell = Cell(pair.name, entry["check"], "cpu", entry["dtype"])
            starts(len(entries), cell)
            try:
                with limited(pair.time_limit):
                    result = session.judge(cell, entry["examples"])
            except OutOfTime as error:
                result = unjudged(cell, Verdict.INCONCLUSIVE, f"{error}; {error.REMEDY}")
            if not result.verdict.passed:
                result = dataclasses.replace(result, reproduce=f"{reproduce} --check {cell.check}")
            ended(result)
            results.append(result)
    session.builds.forget()
    return results


class _JudgingSession(OneSideSession):
    def __init__(self, pair: Pair, recording: Recording, renamed: Mapping[str, str]) -> None:
        mine = one_side(pair, recording.side, recording.components)
        super().__init__(mine, recording.side, renamed, recording.components)
        self._recording = recording
        self._runs: list[dict[str, Any]] = []

    def judge(self, cell: Cell, examples: list[dict[str, Any]]) -> Result:
        """One cell: its examples in the order of the recording, up to the first that fails."""
        check = golden_checks(self.pair).get(cell.check)
        if check is None:
            return unjudged(cell, Verdict.INCONCLUSIVE, f"there is no check {cell.check!r} any more")
        gone = sorted(check.needs - self.pair.capabilities)
        if gone:  # not applicable would look green
            reason = f"it was recorded with capability {', '.join(gone)}, which the pair does not declare today"
            return unjudged(cell, Verdict.INCONCLUSIVE, reason)
        results = []
        for entry in examples:
            self.builds.tape = PlayedTape(entry["given"], self._recording.kept)
            self._runs = entry["runs"]
            results.append(replay(self, cell, entry["example"], check=check))
            if not results[-1].verdict.passed:
                break
        return _together(results)

    def case(self, cell: Cell) -> Case:
        """A case that expects what was recorded."""
        case = _JudgingCase(self.pair, self.builds, DTYPES[cell.dtype], cell.device, self.recordings)
        case.kept, case.recording = self._recording.kept, self._runs
        return case


@dataclasses.dataclass
class _JudgingCase(Case):
    """Runs today's code, and has its reference from a recording."""

    kept: Kept = None  # type: ignore[assignment]  # set by the session
    recording: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _at: int = -1
    _pinned: list[int | None] = dataclasses.field(default_factory=list)

    def parity(
        self,
        program: Program,
        sides: Sides,
        *,
        probe: bool = False,
        pin: Callable[[Divergence], Program] | None = None,
        chosen: Callable[[Trace], None] | None = None,
    ) -> None:
        """As ever, by the next of the recorded runs."""
        self._at += 1
        self._pinned = []
        if self._at >= len(self.recording):
            raise Inconclusive(
                f"{self.kept.path} holds {len(self.recording)} runs of this example and the check makes more: it "
                "changed since; record again with the old code, or use --against-revision"
            )

        def closer(found: Divergence) -> Program:
            self._pinned = [found.update if pin is not None else None]
            return program if pin is None else pin(found)

        super().parity(program, sides, probe=probe, pin=closer, chosen=chosen)

    def contract(self, *_: Any, **__: Any) -> None:
        """Nothing: no earlier run is needed for it."""

    def facts(self, *_: Any, **__: Any) -> None:
        """Nothing: no earlier run is needed for them."""

    def _expect(self, program: Program, sides: Sides, probe: bool) -> Expectation:
        entry = self.recording[self._at]
        if not self._pinned:
            return decode_run(entry["run"], self.kept)
        pins = dict(map(tuple, entry["pins"]))
        return decode_run(pins[self._pinned[0]], self.kept)

    def _prove_non_interference(self, program: Program, sides: Sides, runs: dict[str, Run]) -> None:
        mine = {side: run for side, run in runs.items() if side == "candidate"}
        super()._prove_non_interference(program, sides, mine)

    def _components(self, sides: Sides) -> dict[str, ComponentPair]:
        today = sides.candidate.copy().policy
        found = {link.name: (today.get_submodule(link.candidate), link.candidate) for link in self.pair.components}
        return {name: ComponentPair(name, module, module, path) for name, (module, path) in found.items()}


def _together(results: list[Result]) -> Result:
    """One result of a cell's examples: the one that failed, or the best that can be said of all."""
    last = results[-1]
    spent = {
        "examples": sum(result.examples for result in results),
        "seconds": sum(result.seconds for result in results),
    }
    if not last.verdict.passed:
        note = "reference: the code before; candidate: today's"
        divergence = last.divergence and {**last.divergence, "notes": [*last.divergence["notes"], note]}
        return dataclasses.replace(last, divergence=divergence, **spent)
    rung = max((result.rung for result in results if result.rung), key=lambda name: RUNG_ORDER.index(Rung(name)))
    weakest = max(results, key=lambda result: result.margin)
    return dataclasses.replace(
        last,
        verdict=Verdict.IDENTICAL if rung == Rung.BITS else Verdict.EQUIVALENT,
        rung=rung,
        margin=weakest.margin,
        margin_place=weakest.margin_place,
        null_gradients=tuple(sorted({name for result in results for name in result.null_gradients})),
        **spent,
    )

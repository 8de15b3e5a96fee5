"""Running checks on a pair with a fault or a control planted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from parity.checks.catalogue import checks_of
from parity.compare.verdict import Verdict
from parity.faults.plant import planted
from parity.faults.registry import Control, Fault
from parity.pairs.recipe import Pair
from parity.results import Cell, Result
from parity.runner import Session, run_cell


@dataclass(frozen=True)
class FaultResult:
    """What became of one planted fault.

    Attributes:
        fault: the declaration.
        caught_by: the first check that diverged; empty when none did.
        pinned: the report points at the declared component and phase.
        side_right: the report blames the declared side (for shared code: both).
        result: the result of the check that caught it, or of the last one that ran.
    """

    fault: Fault
    caught_by: str
    pinned: bool
    side_right: bool
    result: Result

    @property
    def as_declared(self) -> bool:
        """Caught by the declared check and pinned on the declared component and phase."""
        return self.caught_by == self.fault.check and self.pinned


def run_fault(
    pair: Pair, fault: Fault, *, checks: Iterable[str] | None = None, max_examples: int | None = None
) -> FaultResult:
    """Plant a fault and run checks until one diverges.

    Args:
        pair: the clean pair.
        fault: what to plant.
        checks: which checks, in this order; None runs those up to the declared one, so that an earlier check that
            catches it first is seen.
        max_examples: as in ``run_cell``.
    """
    names = list(checks_of(pair))
    wanted = list(checks) if checks is not None else names[: names.index(fault.check) + 1]
    result: Result | None = None
    with planted(fault.plant) as patcher:
        session = Session(dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks)))
        for name in wanted:
            result = run_cell(session, Cell(pair.name, name, "cpu", "float64"), max_examples=max_examples, shrink=False)
            if result.verdict is Verdict.DIVERGENT:
                break
        session.builds.forget()
    assert result is not None, "no check was asked for"
    divergence = result.divergence or {}
    caught = result.verdict is Verdict.DIVERGENT
    return FaultResult(
        fault=fault,
        caught_by=result.check if caught else "",
        pinned=caught and (divergence["component"], divergence["phase"]) == (fault.component, fault.phase),
        side_right=caught and (divergence["side"] == "both") == (fault.place == "both"),
        result=result,
    )


def run_control(
    pair: Pair, control: Control, *, checks: Iterable[str] | None = None, max_examples: int | None = None
) -> list[Result]:
    """Plant a harmless change and run every check in every dtype; all must pass."""
    with planted(control.plant) as patcher:
        session = Session(dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks)))
        results = [
            run_cell(session, Cell(pair.name, check.name, "cpu", dtype), max_examples=max_examples, shrink=False)
            for check in checks_of(pair).values()
            if checks is None or check.name in checks
            for dtype in check.dtypes
        ]
        session.builds.forget()
        return results

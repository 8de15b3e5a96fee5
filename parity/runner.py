"""Running checks on pairs without pytest: the one path that the suite, the plugin and the command line share."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, register_random, settings
from hypothesis.errors import FlakyFailure, HypothesisException

from parity.checks.case import BOTH, Case
from parity.checks.catalogue import all_checks
from parity.checks.registry import Check, Example
from parity.compare.judge import Outcome
from parity.compare.verdict import DivergenceFound, Inconclusive, Misuse, Rung, Verdict
from parity.conditions import seed_global
from parity.leaving import left
from parity.pairs.builds import Builds
from parity.pairs.components import inferred_components
from parity.pairs.recipe import Pair, Recording
from parity.results import Cell, Result

DTYPES = {"float64": torch.float64, "float32": torch.float32}

#: Shrinking stops after this many seconds; the smallest example so far is reported.
SHRINK_SECONDS = 20.0


class _TorchRandom:
    """torch's global generator as hypothesis wants it, for subjects that draw from it outside our own seeding."""

    def seed(self, value: int) -> None:
        seed_global(value)

    def getstate(self) -> Any:
        return torch.get_rng_state()

    def setstate(self, state: Any) -> None:
        torch.set_rng_state(state)


_TORCH_RANDOM = _TorchRandom()  # hypothesis keeps a weak reference: this one keeps it alive
register_random(_TORCH_RANDOM)


@dataclass
class Session:
    """One pair ready to be judged: its builds and recordings are made once and shared by its checks.

    ``contracts_on`` are the sides that are judged each by itself, too: one that was found right, and that has not
    changed since, need not be.
    """

    pair: Pair
    contracts_on: tuple[str, ...] = BOTH

    def __post_init__(self) -> None:
        self.builds = Builds(self.pair)
        if self.pair.described:
            self.builds.require_fresh()
        if self.pair.infer_components:
            self.pair = dataclasses.replace(self.pair, components=inferred_components(self.builds))
            self.builds.pair = self.pair
        self.recordings: dict[str, Recording] = {recording.name: recording for recording in self.pair.recordings()}

    def case(self, cell: Cell) -> Case:
        """The state of judging one example."""
        return Case(self.pair, self.builds, DTYPES[cell.dtype], cell.device, self.recordings, self.contracts_on)


def plan(
    pairs: Iterable[Pair],
    *,
    checks: str = "*",
    devices: Iterable[str] = ("cpu",),
    check_set: dict[str, Check] | None = None,
) -> list[Cell]:
    """Every cell of the given pairs, checks (a glob) and devices, in the order of the catalogue.

    A check that a pair leaves to the nightly profile is planned by its full name.
    """
    return [
        Cell(pair.name, check.name, device, dtype)
        for pair in pairs
        for check in (all_checks() if check_set is None else check_set).values()
        if fnmatchcase(check.name, checks) and (check.planned(pair) or (checks == check.name and check.applies(pair)))
        for device in devices
        for dtype in check.dtypes
    ]


def require_cells(cells: list[Cell], checks: str) -> None:
    """Refuse a selection that would judge nothing, which would look green.

    Raises:
        Misuse: there is no cell.
    """
    if not cells:
        raise Misuse(f"no check that matches {checks!r} is for these pairs; own checks are for described pairs alone")


def run_cell(
    session: Session,
    cell: Cell,
    *,
    seed: int | None = None,
    max_examples: int | None = None,
    shrink: bool = True,
    check: Check | None = None,
) -> Result:
    """Judge one cell on drawn examples.

    Args:
        session: the pair with its builds.
        cell: which check, device and dtype.
        seed: a fresh seed for drawing; None follows the hypothesis profile in force (derandomised in CI).
        max_examples: examples to draw; None takes the profile's number times the check's share.
        shrink: whether a failing example is shrunk first.
        check: the check itself when it is not in the catalogue.
    """
    check = check or all_checks()[cell.check]
    skipped = _not_applicable(session.pair, check, cell)
    if skipped is not None:
        return skipped
    judge = _Judge(session, check, cell, shrink)
    wanted = max_examples or max(1, math.ceil(settings.default.max_examples * check.share))  # type: ignore[union-attr]
    started = time.perf_counter()
    try:
        strategy = check.examples(session.pair, session.recordings)
        _explore(judge, strategy, wanted, seed, shrink)
    except DivergenceFound as found:
        return judge.result(Verdict.DIVERGENT, started, found=found)
    except Inconclusive as reason:
        return judge.result(Verdict.INCONCLUSIVE, started, reason=str(reason))
    except FlakyFailure as flaky:
        reason = f"the same example passed and failed: something is not deterministic ({flaky})"
        return judge.result(Verdict.INCONCLUSIVE, started, reason=reason)
    except SystemExit as error:
        return judge.result(Verdict.ERROR, started, reason=f"a side of pair {cell.pair!r} {left(error)}")
    except (Misuse, HypothesisException) as error:
        return judge.result(Verdict.ERROR, started, reason=str(error))
    except Exception as error:
        return judge.result(Verdict.ERROR, started, reason=f"{type(error).__name__}: {error}")
    finally:
        judge.forget()
    return judge.result(Verdict.IDENTICAL if judge.outcome.rung == Rung.BITS else Verdict.EQUIVALENT, started)


def replay(session: Session, cell: Cell, example: Example, *, check: Check | None = None) -> Result:
    """Judge one cell on one stored example."""
    from hypothesis import strategies as st

    check = check or all_checks()[cell.check]
    fixed = dataclasses.replace(check, examples=lambda _p, _r: st.just(example))
    return run_cell(session, cell, max_examples=1, shrink=False, check=fixed)


def _not_applicable(pair: Pair, check: Check, cell: Cell) -> Result | None:
    missing = sorted(check.needs - pair.capabilities)
    if missing or cell.device not in check.devices:
        reason = f"pair {pair.name!r} declares no capability {', '.join(missing)}"
        if not missing:
            reason = f"check {check.name!r} judges {' and '.join(check.devices)} only; {cell.device} was selected"
        return Result(**cell.__dict__, verdict=Verdict.NOT_APPLICABLE, rung=None, margin=0.0, examples=0, seconds=0.0,
                      reason=reason)  # fmt: skip
    if cell.device == "cuda" and not torch.cuda.is_available():
        reason = "device cuda was selected and torch finds no CUDA device"
        return Result(**cell.__dict__, verdict=Verdict.INCONCLUSIVE, rung=None, margin=0.0, examples=0, seconds=0.0,
                      reason=reason)  # fmt: skip
    return None


class _Judge:
    """The body that hypothesis calls, and what it has seen."""

    def __init__(self, session: Session, check: Check, cell: Cell, shrink: bool) -> None:
        self.session, self.check, self.cell, self.shrink = session, check, cell, shrink
        self.outcome = Outcome()
        self.examples = 0
        self.failing: dict[str, Exception] = {}
        self.smallest: Example | None = None
        self.first_failure: float | None = None
        self.trajectory: dict[str, Any] | None = None  # of the smallest failing example

    def __call__(self, example: Example) -> None:
        text = repr(example)
        if not self.shrink and text in self.failing:
            raise self.failing[text]  # hypothesis asks again to see whether it is flaky
        if self.first_failure is not None and text not in self.failing:
            if time.perf_counter() - self.first_failure > SHRINK_SECONDS:
                return  # out of time: new candidates count as passing, so the smallest so far is kept
        else:
            self.examples += self.first_failure is None
        case = self.session.case(self.cell)
        try:
            self.check.judge(case, example)
        except Exception as error:
            self.failing[text], self.smallest = error, example
            self.trajectory = case.outcome.trajectory
            self.first_failure = self.first_failure or time.perf_counter()
            raise
        finally:
            case.forget()
        if self.first_failure is None:
            self.outcome.absorb(case.outcome)

    def forget(self) -> None:
        """Let go of what failures hold, policies and traces: the garbage collector does not see how large they are."""
        for error in self.failing.values():
            traceback.clear_frames(error.__traceback__)
        self.failing.clear()

    def result(
        self, verdict: Verdict, started: float, *, found: DivergenceFound | None = None, reason: str = ""
    ) -> Result:
        """The cell's result; a divergent one carries its smallest example."""
        divergence = found.divergence if found is not None else None
        judged = verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT)
        margin = self.outcome.margin
        if divergence is not None and divergence.measured is not None and divergence.allowed:
            margin = divergence.measured / divergence.allowed
        return Result(
            **self.cell.__dict__,
            verdict=verdict,
            rung=str(self.outcome.rung) if judged else (str(divergence.rung) if divergence is not None else None),
            margin=margin,
            examples=self.examples,
            seconds=time.perf_counter() - started,
            divergence=divergence.to_json() if divergence is not None else None,
            reason=reason,
            example=None if judged else self.smallest,
            margin_place=self.outcome.margin_place,
            null_gradients=tuple(sorted(self.outcome.null_gradients)),
            trajectory=self.outcome.trajectory if judged else self.trajectory,
        )


def _identifier(name: str) -> str:
    """A name as one of Python's; one that is so already stays, for seeds follow from it."""
    kept = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in name)
    return kept if kept.isidentifier() else f"_{kept}"


def _explore(judge: _Judge, strategy: Any, wanted: int, seed: int | None, shrink: bool) -> None:
    """Let hypothesis draw ``wanted`` examples and shrink a failure."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    if shrink:
        phases.append(Phase.shrink)

    def examine(example: Example) -> None:
        judge(example)

    # hypothesis keys its database and its derandomised seed by the function: each cell is a function of its own
    name = "_".join((judge.cell.pair, judge.cell.check, judge.cell.device, judge.cell.dtype))
    examine.__name__ = examine.__qualname__ = _identifier(name)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes = {"derandomize": False, "database": None}
    configured = settings(
        settings.default,
        max_examples=wanted,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]  # its metaclass lists members
        report_multiple_bugs=False,
        print_blob=False,
        **changes,
    )
    test: Callable[[], None] = configured(given(example=strategy)(examine))
    if seed is not None:
        test = hypothesis.seed(seed)(test)
    test()

"""What becomes of a mutant: judged in a forked child, check by check, until one of them sees it."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from parity.checks.catalogue import CHECKS
from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.faults.mutation.mutants import Mutant, NotPlanted, mutated
from parity.pairs.recipe import Pair
from parity.results import Cell, Result
from parity.runner import Session, run_cell

Kind = Literal["divergence", "crash", "timeout", "survived", "not planted"]

#: Checks that judge the platform or take seconds whatever they judge.
LEFT_OUT = frozenset({"compile", "distributed", "device", "throughput"})
SECONDS = 120.0


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


def fate(mutant: Mutant, pair: Pair, *, checks: Iterable[str] | None = None, seconds: float = SECONDS) -> Fate:
    """Judge one mutant in a child process, which takes all that the mutant broke with it.

    Args:
        mutant: see ``mutants_of``.
        pair: the clean pair; nothing may have run ``backward`` in this process, or the child cannot.
        checks: in this order; by default all, but for ``LEFT_OUT``.
        seconds: the child is killed after these.
    """
    names = [name for name in CHECKS if name not in LEFT_OUT] if checks is None else list(checks)
    started = time.perf_counter()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            _silence()
            with os.fdopen(writing, "w") as pipe:
                json.dump(dataclasses.asdict(_judge(mutant, pair, names)), pipe)
            code = 0
        finally:
            os._exit(code)  # no clean-up of the parent's things
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = _read(pipe.fileno(), seconds)
    if text is None:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    took = time.perf_counter() - started
    if text is None:
        return Fate(mutant.name, pair.name, "timeout", seconds=took)
    if not text:
        return Fate(mutant.name, pair.name, "crash", seconds=took, reason="the process died")
    return dataclasses.replace(Fate(**json.loads(text)), seconds=took)


def _judge(mutant: Mutant, pair: Pair, names: list[str]) -> Fate:
    found = Fate(mutant.name, pair.name, "survived")
    try:
        with judging(profile="parity-ci"), mutated(mutant):
            session = Session(pair)
            for name in names:
                for dtype in CHECKS[name].dtypes:
                    result = run_cell(session, Cell(pair.name, name, "cpu", dtype), shrink=False)
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


def _read(descriptor: int, seconds: float) -> str | None:
    """Everything that is written until the other end closes; None when that takes longer."""
    end, parts = time.perf_counter() + seconds, []
    while True:
        left = end - time.perf_counter()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def _silence() -> None:
    """A mutant may print and warn; that is nobody's business."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    torch.set_num_threads(1)

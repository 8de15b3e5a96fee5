"""Judging pairs: as tests of a test module, or without pytest."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from parity.checks.catalogue import all_checks
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.execution import Executor
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_names, select_pairs
from parity.platform_info import platform_info
from parity.profiles import profile_in_force
from parity.report.terminal import render
from parity.results import Report
from parity.runner import plan, require_cells

_CASES = Path("reports") / "cases"


class ReadableReport(Report):
    """A report whose text is what the command line shows."""

    def __str__(self) -> str:
        return render(self)


def judge(
    *pairs: Pair,
    checks: str = "*",
    device: str = "cpu",
    examples: int | None = None,
    seed: int | None = None,
    profile: str | None = None,
    cases: Path | str = _CASES,
) -> ReadableReport:
    """Judge pairs by every check, without pytest.

    Args:
        *pairs: at least one.
        checks: a glob of check names.
        device: ``cpu`` or ``cuda``.
        examples: examples of each check, instead of the profile's.
        seed: draws other examples than the profile's fixed ones.
        profile: hypothesis profile; None keeps a chosen one and otherwise takes ``parity-ci``.
        cases: folder for the examples of failures.

    Returns:
        The report. ``str(report)`` shows it; ``report.exit_code`` is 0 when everything passed, 1 when something
        diverged, 2 when something could not be judged.

    Raises:
        Misuse: no pair is given, or two of one name, or no check matches.
    """
    _require_pairs(pairs)
    if device not in ("cpu", "cuda"):
        raise Misuse(f"judge: device is {device!r}; give 'cpu' or 'cuda'")
    started = time.perf_counter()
    select_names(checks, all_checks(), "check")
    executor = Executor(Path(cases), profile=profile)
    by_name = {pair.name: pair for pair in pairs}
    with profile_in_force(profile):
        cells = plan(pairs, checks=checks, devices=(device,))
    require_cells(cells, checks)
    results = [executor.run(by_name[cell.pair], cell, seed=seed, max_examples=examples) for cell in cells]
    with judging(device, profile=profile):
        platform = platform_info((device,))
    return ReadableReport(len(cells), results, time.perf_counter() - started, platform)


def tests_of(*pairs: Pair | str) -> dict[str, Callable[..., None]]:
    """Generate the tests of pairs: ``globals().update(parity.tests_of(pair))`` in a test module.

    Args:
        *pairs: pairs, or names (globs) of registered ones.

    Returns:
        Name -> test function, one for each check, with a case for each pair: ``test_forward[mine-cpu]``; and where
        faults are declared for a pair, ``test_fault``, which plants each and asks that it is found as declared.

    Raises:
        Misuse: no pair is given, or two of one name, or a name matches none.
    """
    from parity.suite.faults import fault_tests
    from parity.suite.generate import parity_tests

    chosen: list[Pair] = []
    for given in pairs:
        chosen += select_pairs(given) if isinstance(given, str) else [given]
    _require_pairs(tuple(chosen))
    return {**parity_tests(chosen), **fault_tests(chosen)}


def _require_pairs(pairs: tuple[Pair, ...]) -> None:
    if not pairs:
        raise Misuse("no pair was given; make one with parity.pair(...)")
    for pair in pairs:
        if not isinstance(pair, Pair):
            raise Misuse(f"{pair!r:.80} is no pair; make one with parity.pair(...)")
    names = [pair.name for pair in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Misuse(f"two pairs are named {twice[0]!r}; give one of the two another name")

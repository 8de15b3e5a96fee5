"""Generating one test function per check, parametrised by pair and device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial

import pytest

from parity.checks.catalogue import all_checks
from parity.checks.registry import Check
from parity.compare.verdict import Misuse, Verdict
from parity.execution import Executor, unjudged
from parity.pairs.recipe import Pair
from parity.pairs.registry import GROUP, registered_pairs
from parity.report.describe import describe
from parity.results import Cell, Result
from parity.suite.budget import Judged
from parity.suite.expected import expectation
from parity.suite.options import DEVICES, OPTIONS, Options
from parity.suite.record import JUDGED, RESULT

_EXECUTOR = pytest.StashKey[Executor]()


def parity_tests(
    pairs: Iterable[Pair] | None = None, *, checks: dict[str, Check] | None = None
) -> dict[str, Callable[..., None]]:
    """Generate the tests of some pairs: ``globals().update(parity_tests([my_pair]))`` in a test module.

    Args:
        pairs: the pairs; None takes all registered ones, and a whole run is then compared with the manifest.
        checks: the checks, by name; None takes all, those that users added included.

    Returns:
        Name -> test function: ``test_forward``, with cases such as ``test_forward[fast-cpu]``.

    Raises:
        pytest.Collector.CollectError: there is no pair, or a registered one cannot be loaded.
    """
    try:
        chosen = list(registered_pairs().values() if pairs is None else pairs)
    except Misuse as error:
        raise pytest.Collector.CollectError(str(error)) from error
    if not chosen:  # pytest would skip an empty parametrisation, which looks green
        raise pytest.Collector.CollectError(f"no pair to judge: none was given, and no package offers any in {GROUP!r}")
    checks = all_checks() if checks is None else checks
    planned = {check.name: [pair for pair in chosen if check.planned(pair)] for check in checks.values()}
    return {
        f"test_{check.name}": _test(check, planned[check.name], registered=pairs is None)
        for check in checks.values()
        if planned[check.name]
    }


def _test(check: Check, pairs: list[Pair], *, registered: bool) -> Callable[..., None]:
    def test(request: pytest.FixtureRequest, parity_pair: Pair, parity_cells: list[Cell]) -> None:
        results = [_judge(request.config, parity_pair, check, cell) for cell in parity_cells]
        for result in results:
            request.node.user_properties.append((RESULT, json.dumps(result.to_json())))
        _conclude(results)

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.summary
    cases = []
    for pair in pairs:
        for device in DEVICES:
            cells = [Cell(pair.name, check.name, device, dtype) for dtype in check.dtypes]
            marks = [pytest.mark.parity(cells=cells, registered=registered)]
            marks += [pytest.mark.gpu] if device == "cuda" else []
            cases.append(pytest.param(pair, cells, id=f"{pair.name}-{device}", marks=marks))
    return pytest.mark.parametrize(("parity_pair", "parity_cells"), cases)(test)


def _judge(config: pytest.Config, pair: Pair, check: Check, cell: Cell) -> Result:
    options = config.stash[OPTIONS]
    if cell.device not in options.devices:  # it would have been skipped, had a GPU not been required
        reason = f"--parity-require-gpu asks for device {cell.device}; select it with --parity-device={cell.device}"
        return unjudged(cell, Verdict.INCONCLUSIVE, reason)
    executor = _executor(config, options)
    result = executor.run(pair, cell, check=check)
    again = partial(executor.run, pair, cell, check=check)
    config.stash.setdefault(JUDGED, []).append(Judged(result, lambda **drawn: _expect(again(**drawn), options)))
    return _expect(result, options)


def _executor(config: pytest.Config, options: Options) -> Executor:
    """One per process, so that the tests of a pair share its builds."""
    return config.stash.setdefault(_EXECUTOR, Executor(options.cases))


def _expect(result: Result, options: Options) -> Result:
    line = expectation(result.cell, options.expected)
    return result if line is None else Result(**{**vars(result), "expected_failure": str(line)})


def _conclude(results: list[Result]) -> None:
    """End the test as its results say."""
    failed = [result for result in results if not result.accepted]
    stale = [r for r in results if r.expected_failure and r.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT)]
    if failed or stale:
        blocks = [describe(result) for result in failed]
        blocks += [f"UNEXPECTED PASS  {result.cell}\n  {result.expected_failure}" for result in stale]
        pytest.fail("\n\n".join(blocks), pytrace=False)
    expected = [result for result in results if not result.verdict.passed]
    if expected:
        pytest.xfail("; ".join(result.expected_failure for result in expected))
    if all(result.verdict is Verdict.NOT_APPLICABLE for result in results):
        pytest.skip("; ".join(dict.fromkeys(result.reason for result in results)))

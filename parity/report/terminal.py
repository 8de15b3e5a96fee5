"""The table and closing lines of a run, as plain text."""

from __future__ import annotations

from collections import Counter

from parity.compare.verdict import Verdict
from parity.report.describe import describe
from parity.results import Report, Result

_DTYPE_ORDER = {"float64": 0, "float32": 1}


def table(report: Report) -> list[list[str]]:
    """Rows of text, the first a heading: a row per check, a column per pair and device, cells ``float64 / float32``."""
    columns = list(dict.fromkeys((result.pair, result.device) for result in report.results))
    checks = list(dict.fromkeys(result.check for result in report.results))
    heads = [pair if device == "cpu" else f"{pair} {device}" for pair, device in columns]
    return [
        ["check", *heads],
        *([check, *(_cell(report, check, pair, device) for pair, device in columns)] for check in checks),
    ]


def weakest(report: Report) -> Result | None:
    """The passed result that came nearest to its bound, or None when all bits agreed."""
    passed = [result for result in report.results if result.verdict.passed and result.margin > 0.0]
    return max(passed, key=lambda result: result.margin, default=None)


def totals(report: Report) -> str:
    """One line: planned, ran, verdicts counted, expected failures counted apart."""
    expected = [result for result in report.results if result.accepted and not result.verdict.passed]
    counts = Counter(str(result.verdict) for result in report.results if result not in expected)
    parts = [f"{counts[verdict]} {verdict}" for verdict in map(str, Verdict) if counts[verdict]]
    if expected:
        parts.append(f"{len(expected)} failed as expected")
    line = f"planned {report.planned}, ran {report.ran}" + (f": {', '.join(parts)}" if parts else "")
    return "\n".join([line, *report.notes])


def margin_line(report: Report) -> str:
    """One line: the weakest margin with its place, and the time taken."""
    result = weakest(report)
    if result is None:
        passed = [result for result in report.results if result.verdict is Verdict.IDENTICAL]
        margin = "no margin: what passed agrees in all bits" if passed else "no margin: nothing passed"
    else:
        place = f", {result.margin_place}" if result.margin_place else ""
        margin = f"weakest margin {result.margin:.2g} of 1 at {result.cell}{place}"
    return f"{margin}   in {report.seconds:.1f} s"


def render(report: Report, *, failures: bool = True) -> str:
    """The whole report as text: failures, expected failures, table, totals, problems.

    Args:
        report: what to show.
        failures: False leaves out the blocks of the failures, for a caller that has shown them.
    """
    blocks = _failures(report) if failures else []
    expected = [result for result in report.results if result.accepted and not result.verdict.passed]
    if expected:
        blocks.append("\n".join(["failed as expected", *(f"  {r.cell}: {r.expected_failure}" for r in expected)]))
    if report.results:
        blocks.append("\n".join(_aligned(table(report))))
    blocks.append(f"{totals(report)}\n{margin_line(report)}")
    if report.problems:
        blocks.append("\n".join(f"PROBLEM  {problem}" for problem in report.problems))
    return "\n\n".join(blocks)


def _failures(report: Report) -> list[str]:
    """A block per failure; what kept several cells of a pair from being judged is told once."""
    told: dict[tuple[str, str], list[Result]] = {}
    for number, result in enumerate(report.results):
        if not result.accepted:
            alike = (result.pair, result.reason) if result.reason and result.divergence is None else ("", str(number))
            told.setdefault(alike, []).append(result)
    blocks = []
    for first, *more in told.values():
        also = f"\n  the same in {len(more)} more: {', '.join(f'{r.check} {r.dtype}' for r in more)}" if more else ""
        blocks.append(describe(first) + also)
    return blocks


def _cell(report: Report, check: str, pair: str, device: str) -> str:
    found = [r for r in report.results if (r.check, r.pair, r.device) == (check, pair, device)]
    found.sort(key=lambda result: _DTYPE_ORDER.get(result.dtype, len(_DTYPE_ORDER)))
    return " / ".join(_short(result) for result in found) or "-"


def _short(result: Result) -> str:
    if result.verdict is Verdict.NOT_APPLICABLE:
        return "n/a"
    if result.verdict.passed:
        return result.rung or "-"
    return "expected" if result.accepted else result.verdict.upper()


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]

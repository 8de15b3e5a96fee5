"""The report as Markdown, short enough for a CI job summary."""

from __future__ import annotations

from typing import Any

from parity.report.describe import describe
from parity.report.terminal import margin_line, table, totals
from parity.results import Report

MOST_FAILURES = 10
_LONGEST_FAILURE = 8_000  # characters; ten of them stay far below the 1 MiB that a job summary holds
_MOST_ROWS = 2_000


def to_markdown(report: Report) -> str:
    """Return the report as Markdown: outcome, one table, at most ten failures in detail, the platform."""
    outcome = {0: "passed", 1: "divergent", 2: "not everything was judged"}[report.exit_code]
    parts = [f"## Parity: {outcome}", f"{totals(report)}.", _as_table(table(report)), f"{margin_line(report)}."]
    if report.problems:
        parts.append("\n".join(f"- **problem**: {_inline(problem)}" for problem in report.problems[:MOST_FAILURES]))
    failures = [result for result in report.results if not result.accepted]
    parts += [_fenced(describe(result)) for result in failures[:MOST_FAILURES]]
    if len(failures) > MOST_FAILURES:
        parts.append(f"{len(failures) - MOST_FAILURES} more failures are in `parity.json`.")
    expected = [result for result in report.results if result.accepted and not result.verdict.passed]
    if expected:
        parts.append("\n".join(f"- failed as expected: {r.cell}: {_inline(r.expected_failure)}" for r in expected))
    null = sorted({f"{r.pair}: {name}" for r in report.results for name in r.null_gradients})
    if null:
        names = ", ".join(f"`{name}`" for name in null[:50])
        parts.append(f"Parameters whose true gradient is zero, judged absolutely: {names}.")
    if report.platform:
        parts.append(_platform(report.platform))
    return "\n\n".join(parts) + "\n"


def _as_table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(_inline(text) for text in row)} |" for row in rows[:_MOST_ROWS]]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)


def _fenced(block: str) -> str:
    """A code block; text that itself holds a fence cannot end it."""
    block = block.replace("```", "'''")
    short = block if len(block) <= _LONGEST_FAILURE else f"{block[:_LONGEST_FAILURE]}\n..."
    return f"```text\n{short}\n```"


def _inline(text: str) -> str:
    short = text if len(text) <= 300 else f"{text[:300]}..."
    return short.replace("|", "\\|").replace("\n", " ")


def _platform(platform: dict[str, Any]) -> str:
    versions = platform.get("versions") or {}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    rest = ", ".join(f"{name} {platform[name]}" for name in ("device", "threads", "cpu") if name in platform)
    return f"<sub>{_inline('; '.join(part for part in (named, rest) if part))}</sub>"

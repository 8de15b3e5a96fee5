"""Failures as annotations of a pull request: workflow commands of GitHub Actions."""

from __future__ import annotations

import os

from parity.report.describe import describe
from parity.results import Report, Result

#: GitHub shows about ten per step; what is more only hides them.
MOST = 10
_LONGEST = 2_000


def error_lines(report: Report) -> list[str]:
    """One ``::error`` line per failure and problem, at most ten; none outside GitHub Actions.

    A failure is shown at the class of the component it is pinned on, where that is known and part of the project.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    failures = [_line(result) for result in report.results if not result.accepted]
    problems = [f"::error title=parity::{_data(problem)}" for problem in report.problems]
    lines = problems[: MOST // 2] + failures
    if len(lines) <= MOST:
        return lines
    return [*lines[: MOST - 1], f"::error title=parity::{len(lines) - MOST + 1} more failures are in the report"]


def _line(result: Result) -> str:
    file, _, line = str((result.divergence or {}).get("source", "")).rpartition(":")
    where = f"file={_property(file)},line={_property(line)}," if file else ""
    title = f"{result.verdict}: {result.pair} / {result.check} ({result.device} {result.dtype})"
    return f"::error {where}title={_property(title)}::{_data(describe(result))}"


def _data(text: str) -> str:
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return short.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

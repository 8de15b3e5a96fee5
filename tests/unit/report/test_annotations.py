"""Annotations of a pull request: few, where the code is, and never more than one line each."""

from __future__ import annotations

import pytest
import torch
from page_samples import evil, failing, green, relu, result

from parity.compare.verdict import Verdict
from parity.report.annotations import error_lines
from parity.results import Report


@pytest.fixture(autouse=True)
def on_github(monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


def test_a_failure_is_shown_at_the_class_it_is_pinned_on():
    divergent = result(verdict=Verdict.DIVERGENT, divergence=relu(torch.ones(2, 2)), reproduce="run 100%")
    (line,) = error_lines(Report(1, [divergent], 1.0))
    assert line.startswith(
        "::error file=agents/fast.py,line=7,title=divergent%3A fast / forward (cpu float64)::DIVERGENT  fast / forward"
    )
    assert line.endswith("%0A  reproduce  run 100%25")
    assert "a ReLU is missing" in line


def test_what_is_pinned_nowhere_and_problems_of_the_run_have_no_file():
    lines = error_lines(failing())
    assert lines[0] == "::error title=parity::incomplete: 1 of 10 planned cells did not run"
    assert sum(" file=" in line for line in lines) == 4
    assert len(lines) == 8  # what failed as expected is none


def test_there_are_ten_at_most_and_the_last_counts_the_rest():
    many = [result(f"check{n}", verdict=Verdict.ERROR, reason="x" * 9_000) for n in range(30)]
    lines = error_lines(Report(30, many, 1.0, problems=["a problem"] * 30))
    assert len(lines) == 10
    assert lines[-1] == "::error title=parity::26 more failures are in the report"
    assert max(map(len, lines)) < 3_000
    assert len(error_lines(Report(10, many[:10], 1.0))) == 10
    assert "more failures" not in error_lines(Report(10, many[:10], 1.0))[-1]


def test_text_cannot_begin_a_command_of_its_own():
    report = evil()
    report.problems.append("one\n::error::two\r")
    lines = error_lines(report)
    assert all(len(line.splitlines()) == 1 and line.startswith("::error ") for line in lines)
    assert "one%0A::error::two%0D" in lines[1]


def test_there_are_none_of_what_passes_nor_elsewhere(monkeypatch):
    assert error_lines(green()) == []
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert error_lines(failing()) == []

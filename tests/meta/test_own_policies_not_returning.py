"""Strangers' code that does not come back: it hangs, or leaves the process. Judging ends it, goes on and says so."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from stranger import Good, judged, pair, variant

import parity
from parity.compare.verdict import Verdict
from parity.golden.judge import Recording, judge_by
from parity.golden.record import record
from parity.pairs import importing
from parity.results import Result


def hangs(*_: Any) -> Any:
    while True:
        time.sleep(0.01)


def test_what_hangs_is_ended_and_named() -> None:
    started = time.monotonic()
    report = parity.judge(pair(variant(hangs), time_limit=0.5), checks="forward", examples=1)
    assert [result.verdict for result in report.results] == [Verdict.INCONCLUSIVE] * 2
    assert "took longer than 0.5 s; it was in hangs (test_own_policies_not_returning.py" in report.results[0].reason
    assert "give the pair a longer time_limit" in report.results[0].reason
    report = parity.judge(
        pair(hangs, time_limit=0.5), examples=1
    )  # a builder that hangs does so once, not in each cell
    assert report.exit_code == 2
    assert "pair 'mine' cannot be opened: it took longer than 0.5 s" in report.results[-1].reason
    assert time.monotonic() - started < 20


def test_an_alarm_of_somebody_else_still_rings_after_judging() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    outer = signal.setitimer(signal.ITIMER_REAL, 30.0)
    try:
        assert parity.judge(pair(time_limit=5.0), checks="construction", examples=1).exit_code == 0
        remaining, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 5.0 < remaining < 30.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)


def leaves(*_: Any) -> Any:
    raise SystemExit(0)


@pytest.mark.parametrize("side", ["candidate", "reference"])
def test_code_that_leaves_does_not_end_the_judging(side: str) -> None:
    def judging(left: Any) -> Result:
        return judged(left) if side == "candidate" else judged(Good, left)

    result = judging(leaves)
    assert result.verdict is Verdict.ERROR
    assert f"the builder of the {side} of pair 'mine' called sys.exit(0) in leaves (test_own_pol" in result.reason
    result = judging(variant(leaves))
    assert result.verdict is Verdict.ERROR
    assert f"the {side}" in result.reason
    assert "called sys.exit(0) in leaves (test_own_policies_not_returning.py" in result.reason
    forgetful = parity.Side(Good, clip=leaves)
    assert "called sys.exit(0) in leaves" in judged(forgetful, forgetful, check="clipping").reason


def test_code_that_leaves_while_it_is_recorded_or_judged_by_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(parity.Misuse, match=r"called sys.exit\(0\) in leaves"):
        record(pair(leaves), "candidate", tmp_path / "none", checks="forward", examples=1)
    with pytest.raises(parity.Misuse, match=r"called sys.exit\(0\) in leaves"):
        record(pair(variant(leaves)), "candidate", tmp_path / "none", checks="forward", examples=1)
    record(pair(), "candidate", tmp_path / "kept", checks="forward", examples=1)
    with pytest.raises(parity.Misuse, match=r"builder of the candidate of pair 'mine' called sys.exit\(0\)"):
        judge_by(Recording(tmp_path / "kept", pair(leaves)), pair(leaves))
    today = pair(variant(leaves))
    results = judge_by(Recording(tmp_path / "kept", today), today)
    assert {result.verdict for result in results} == {Verdict.ERROR}
    assert "the candidate, in phase 'forward', called sys.exit(0)" in results[0].reason


def test_a_file_that_leaves_is_named_by_the_command_line(nothing_declared: Path) -> None:
    (nothing_declared / "leaving_pairs.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(parity.Misuse, match=r"--import leaving_pairs.py: failed with SystemExit: 0"):
        importing.import_pairs("leaving_pairs.py")

"""Time that is left goes into more examples: fairly, in time, and a failure found there is one."""

from __future__ import annotations

from typing import Any

import pytest

from parity.compare.verdict import Verdict
from parity.results import Cell, Result
from parity.suite import budget
from parity.suite.budget import Extra, Judged, spend, together


class Clock:
    """Time that passes only where somebody judges."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(budget, "time", fake)
    return fake


def result(pair: str, check: str, verdict: Verdict = Verdict.EQUIVALENT, **rest: Any) -> Result:
    fields: dict[str, Any] = {"rung": "float64", "margin": 0.1, "examples": 4, "seconds": 1.0, **rest}
    return Result(pair, check, "cpu", "float64", verdict, **fields)


def judged(clock: Clock, seeds: list[int], pair: str, check: str, seconds: float, fails_at: int = 0) -> Judged:
    rounds: list[int] = []

    def again(*, seed: int, max_examples: int) -> Result:
        seeds.append(seed)
        rounds.append(max_examples)
        clock.now += seconds
        verdict = Verdict.DIVERGENT if len(rounds) == fails_at else Verdict.EQUIVALENT
        return result(pair, check, verdict, examples=max_examples, seconds=seconds)

    return Judged(result(pair, check, seconds=seconds), again)


def test_each_cell_gets_about_the_same_time_and_every_round_a_fresh_seed(clock: Clock):
    seeds: list[int] = []
    cells = [judged(clock, seeds, *names) for names in (("a", "quick", 1.0), ("a", "slow", 5.0), ("b", "quick", 1.0))]
    extra = spend(cells, until=60.0)
    spent = {(found.pair, found.check): found.seconds for found in extra.results}
    assert set(spent) == {("a", "quick"), ("a", "slow"), ("b", "quick")}
    assert spent["a", "quick"] == pytest.approx(15.0, abs=5.0)
    assert spent["a", "slow"] == 15.0
    assert spent["b", "quick"] == pytest.approx(30.0, abs=1.0)
    assert 59.0 <= clock.now <= 60.0
    assert extra.examples == 4 * len(seeds) == sum(found.examples for found in extra.results)
    assert len(set(seeds)) == len(seeds)
    assert (
        extra.describe()
        == f"beyond the plan: {extra.examples} more examples in {clock.now:.0f} s of the budget, of 3 cells"
    )


def test_a_failure_ends_its_cell_and_is_counted(clock: Clock):
    seeds: list[int] = []
    extra = spend([judged(clock, seeds, "a", "x", 1.0, fails_at=2), judged(clock, seeds, "a", "y", 1.0)], until=20.0)
    by_check = {found.check: found for found in extra.results}
    assert (by_check["x"].verdict, by_check["x"].examples) == (Verdict.DIVERGENT, 8)
    assert by_check["y"].verdict is Verdict.EQUIVALENT
    assert extra.describe().endswith("of 2 cells; 1 of them failed")


def test_nothing_begins_that_would_not_end_in_time_and_nothing_that_failed_or_judged_nothing_runs_again(clock: Clock):
    seeds: list[int] = []
    failed = Judged(result("a", "failed", Verdict.DIVERGENT), lambda **_: pytest.fail("it failed already"))
    skipped = Judged(
        result("a", "skipped", Verdict.NOT_APPLICABLE, examples=0), lambda **_: pytest.fail("nothing to judge")
    )
    extra = spend([judged(clock, seeds, "a", "x", 3.0), failed, skipped], until=2.0)
    assert (extra.examples, extra.results, clock.now) == (0, [], 0.0)


def test_two_judgements_of_a_cell_are_one():
    passed, weaker = result("a", "x", margin=0.1), result("a", "x", margin=0.4, margin_place="fc1/output")
    assert (together(passed, weaker).margin, together(passed, weaker).examples) == (0.4, 8)
    failed = result("a", "x", Verdict.DIVERGENT, example={"n": 1})
    assert together(failed, passed).verdict is together(passed, failed).verdict is Verdict.DIVERGENT
    assert together(None, passed) is passed


def test_what_a_worker_found_crosses_to_the_controller():
    extra = Extra(8, 2.0, [result("a", "x", Verdict.DIVERGENT)])
    assert Extra.from_json(extra.to_json()) == extra
    joined = extra.joined(Extra(4, 1.0, []))
    assert (joined.examples, joined.seconds, joined.results[0].cell) == (12, 3.0, Cell("a", "x", "cpu", "float64"))

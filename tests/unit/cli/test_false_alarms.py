"""The bound of the false-alarm rate, and what becomes of results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import parity.cli.false_alarms as module
from parity.cli import main
from parity.cli.false_alarms import summary, upper_bound
from parity.compare.verdict import Verdict
from parity.results import Result


def result(check: str, verdict: Verdict, examples: int) -> Result:
    return Result("fast", check, "cpu", "float64", verdict, None, 0.0, examples, 0.1)


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    [
        (0, 100, 1 - 0.05 ** (1 / 100)),
        (0, 100_000, 1 - 0.05 ** (1 / 100_000)),
        (1, 10, 0.3941633),  # tables of Clopper and Pearson, one-sided
        (5, 100, 0.1022534),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_bound_is_exact(failures, trials, bound):
    assert upper_bound(failures, trials) == pytest.approx(bound, rel=1e-5)


def test_what_was_never_judged_still_counts_as_a_failure():
    results = [
        result("forward", Verdict.IDENTICAL, 10),
        result("forward", Verdict.DIVERGENT, 4),
        result("memory", Verdict.ERROR, 0),
        result("memory", Verdict.NOT_APPLICABLE, 0),
    ]
    content = summary(results, [7, 8])
    assert (content["examples"], content["failures"], content["seeds"]) == (15, 2, [7, 8])
    assert {check: (counts["examples"], counts["failures"]) for check, counts in content["per_check"].items()} == {
        "forward": (14, 1),
        "memory": (1, 1),
    }
    assert content["upper_bound_95"] == upper_bound(2, 15)


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.EQUIVALENT, 0), (Verdict.DIVERGENT, 1)])
def test_the_command_writes_the_figures_and_fails_on_a_failure(capsys, monkeypatch, tmp_path, verdict, code):
    monkeypatch.setattr(module, "select_pairs", lambda pattern: [])
    monkeypatch.setattr(module, "_judge", lambda *arguments: [result("forward", verdict, 10)])
    out = tmp_path / "alarms.json"
    assert main(["false-alarms", "--seeds", "2", "--first-seed", "5", "--out", str(out)]) == code
    written = json.loads(out.read_text())
    assert {"examples", "failures", "upper_bound_95", "per_check", "seeds", "platform"} <= set(written)
    assert written["seeds"] == [5, 6]
    assert f"{code} of 10 examples failed" in capsys.readouterr().out


def test_the_worst_margin_of_each_dtype_is_kept():
    results = [replace(result("forward", Verdict.EQUIVALENT, 10), margin=margin) for margin in (0.2, 0.6, 0.1)]
    content = summary(results, [7])
    assert content["per_check"]["forward"]["worst_margin"] == {results[0].dtype: 0.6}

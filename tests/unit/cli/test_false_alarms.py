"""The bound of the false-alarm rate, and what becomes of results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import parity.cli.false_alarms as module
from parity.cli import main
from parity.cli.false_alarms import Judged, Task, _tasks, summary, upper_bound
from parity.compare.verdict import Verdict
from parity.faults.registry import load_catalogues
from parity.pairs.registry import registered_pairs
from parity.results import Cell, Result
from parity.runner import plan


def result(check: str, verdict: Verdict, examples: int, *, threads: int = 1, control: str = "") -> Judged:
    found = Result("fast", check, "cpu", "float64", verdict, None, 0.0, examples, 0.1)
    return Task(found.cell, 7, examples, threads, control), found


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
        result("memory", Verdict.IDENTICAL, 5, threads=2, control="another_order"),
    ]
    content = summary(results, [7, 8])
    assert (content["examples"], content["failures"], content["seeds"]) == (20, 2, [7, 8])
    assert {check: (counts["examples"], counts["failures"]) for check, counts in content["per_check"].items()} == {
        "forward": (14, 1),
        "memory": (6, 1),
    }
    assert content["upper_bound_95"] == upper_bound(2, 20)
    assert (content["controls"], content["examples_of_controls"]) == (1, 5)
    assert content["examples_by"]["threads"] == {"1": 15, "2": 5}


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
    task, found = result("forward", Verdict.EQUIVALENT, 10)
    content = summary([(task, replace(found, margin=margin)) for margin in (0.2, 0.6, 0.1)], [7])
    assert content["per_check"]["forward"]["worst_margin"] == {found.dtype: 0.6}


def test_seeds_take_turns_in_threads_and_controls_are_judged_too():
    cells = plan([registered_pairs()["fast"]], checks="f*")
    tasks = _tasks(cells, [3, 4], 10)
    assert {(task.seed, task.threads) for task in tasks if not task.control} == {(3, 1), (4, 2)}
    controls = load_catalogues()["fast"].controls
    assert {task.control for task in tasks} == {"", *controls}
    assert len(tasks) == len(cells) * (2 + len(controls))


def test_what_shares_its_builds_is_judged_together():
    cells = plan([registered_pairs()["fast"]], checks="f*")
    tasks = _tasks(cells, [3, 4], 10)
    groups = module._groups(tasks)
    assert [task for group in groups for task in group] == tasks
    assert len(groups) == 2 + len(load_catalogues()["fast"].controls)


def test_a_harmless_rewrite_is_taken_out_again(tmp_path):
    module._start(tmp_path)
    cell = Cell("fast", "forward", "cpu", "float64")
    for control in ("", "refusals_worded_otherwise", ""):
        ((_, found),) = module._judge_group([Task(cell, 1, 2, 2, control)])
        assert found.verdict.passed and found.examples == 2

"""The command line on stub pairs and checks: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import strategies as st

from parity.checks.catalogue import CHECKS
from parity.checks.registry import Check
from parity.cli import main
from parity.compare.verdict import Divergence, DivergenceFound, Inconclusive
from parity.faults.plant import Patcher
from parity.faults.registry import Catalogue
from parity.pairs import registry
from parity.pairs.recipe import Pair


def judge(case: Any, example: dict[str, Any]) -> None:
    if case.pair.name == "bad" and example["number"] > 2:
        found = Divergence("fact", "forward", "fc1", "size", reference=1, candidate=example["number"], rung="bits")
        raise DivergenceFound(found)
    if case.pair.name == "unclear":
        raise Inconclusive("unmapped parameter 'a'")
    case.outcome.margin, case.outcome.margin_place = 0.25, "fc1/output"


def stub(name: str) -> Pair:
    return Pair(name, recipe=None, reference=None, candidate=None, components=(), generate=None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def stubs(monkeypatch, tmp_path):
    """Two checks and three pairs instead of the real ones, in an empty folder."""
    numbers = st.fixed_dictionaries({"number": st.integers(0, 9)})
    for name in list(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    for name, dtypes in (("forward", ("float64", "float32")), ("memory", ("float64",))):
        monkeypatch.setitem(CHECKS, name, Check(name, f"about {name}", lambda p, r: numbers, judge, dtypes))
    monkeypatch.setattr(registry, "_by_hand", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    for name in ("good", "bad", "unclear"):
        registry.register(stub(name))
    monkeypatch.chdir(tmp_path)


def test_a_pair_that_passes(capsys, tmp_path):
    assert main(["run", "good", "--json", "out.json", "--report", "r"]) == 0
    captured = capsys.readouterr()
    assert "forward   bits / bits" in captured.out
    assert "planned 3, ran 3: 3 identical" in captured.out
    assert "[3/3]  good / memory   cpu float64   identical" in captured.err
    assert "\x1b" not in captured.out + captured.err
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["planned"], report["ran"], report["platform"]["threads"]) == (3, 3, 1)
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["parity.html", "parity.json", "parity.md"]


def test_a_divergent_pair_is_stored_and_replayed(capsys, tmp_path):
    assert main(["run", "bad", "--check", "memory"]) == 1
    out = capsys.readouterr().out
    (case,) = (tmp_path / "reports/cases").iterdir()
    command = f"python -m parity run bad --check memory --example reports/cases/{case.name}"
    assert command in out
    assert json.loads(case.read_text())["example"] == {"number": 3}
    assert main(command.split()[3:]) == 1
    assert command in capsys.readouterr().out


def test_a_pull_request_is_annotated(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["run", "bad", "--check", "memory"]) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert len(found) == 1
    assert found[0].startswith("::error title=divergent%3A bad / memory (cpu float64)::DIVERGENT  bad / memory")


def test_the_same_examples_are_drawn_every_time_unless_a_seed_is_given(capsys):
    margins = []
    for arguments in ([], [], ["--seed", "7", "--examples", "3"]):
        assert main(["run", "good", "--check", "memory", "--json", "out.json", *arguments]) == 0
        with open("out.json", encoding="utf-8") as file:
            margins.append(json.load(file)["results"][0]["examples"])
    assert margins[0] == margins[1]
    assert margins[2] == 3


@pytest.mark.parametrize(("profile", "checks"), [("parity-ci", {"forward"}), ("parity-nightly", {"forward", "memory"})])
def test_what_is_left_to_the_night_is_planned_by_its_profile(monkeypatch, tmp_path, profile, checks):
    by_night = dataclasses.replace(CHECKS["memory"], nightly_pairs=("good",))
    monkeypatch.setitem(CHECKS, "memory", by_night)
    assert main(["run", "good", "--profile", profile, "--json", "out.json"]) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    assert {result["check"] for result in content["results"]} == checks


def test_what_cannot_be_judged_exits_2(capsys):
    assert main(["run", "unclear"]) == 2
    assert "reason  unmapped parameter 'a'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "goood"], "no pair matches 'goood'; did you mean 'good'?"),
        (["run", "good", "--check", "forwrd"], "no check matches 'forwrd'; did you mean 'forward'?"),
        (["run", "good", "--example", "gone.json"], "cannot read gone.json"),
        (["run", "good", "--example", "odd.json"], "odd.json is not a stored parity case"),
        (["run", "good", "--example", "case.json"], "case.json holds a case of pair 'bad', not of 'good'"),
        (["run", "bad", "--check", "forward", "--example", "case.json"], "a case of check 'memory', not of 'forward'"),
        (["run", "bad", "--seed", "1", "--example", "case.json"], "leave --seed and --examples out"),
        (["run", "good", "--json", "odd.json/r.json"], "cannot write odd.json/r.json"),
        (["report", "odd.json"], "odd.json is not a parity report"),
        (["compare", "odd.json", "odd.json"], "odd.json is not a parity report"),
        (["false-alarms", "nobody"], "no pair matches 'nobody'"),
    ],
)
def test_misuse_exits_2_with_one_line(capsys, tmp_path, arguments, message):
    (tmp_path / "odd.json").write_text("{}")
    case = {"pair": "bad", "check": "memory", "device": "cpu", "dtype": "float64", "example": {}, "versions": {}}
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [[], ["rnu"], ["run"], ["run", "good", "--examples", "0"]])
def test_bad_arguments_exit_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_an_internal_error_exits_2_without_a_traceback(capsys, monkeypatch):
    monkeypatch.setattr("parity.cli.run.render", lambda report: 1 / 0)
    assert main(["run", "good"]) == 2
    assert "internal error: ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_list_names_pairs_checks_and_faults(capsys, monkeypatch):
    catalogue = Catalogue("good")

    @catalogue.fault(origin="a document", check="forward", component="fc1", phase="forward")
    def relu_missing(patcher: Patcher) -> None: ...

    monkeypatch.setattr("parity.cli.listing.load_catalogues", lambda: {"good": catalogue})
    assert main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [pair["name"] for pair in content["pairs"]] == ["good", "bad", "unclear"]
    assert content["checks"][0] == {
        "name": "forward",
        "summary": "about forward",
        "dtypes": ["float64", "float32"],
        "needs": [],
    }
    assert content["faults"][0]["name"] == "relu_missing"
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "  memory    about memory (float64)" in out
    assert "faults (1): --faults shows them" in out and "relu_missing" not in out
    assert main(["list", "--faults"]) == 0
    out = capsys.readouterr().out
    assert "  relu_missing   good, candidate: caught by forward at fc1, forward" in out


def test_a_stored_report_is_shown_as_it_was(capsys):
    main(["run", "bad", "--check", "memory", "--json", "out.json"])
    shown = capsys.readouterr().out
    assert main(["report", "out.json"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["report", "out.json", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("## Parity: divergent\n")


def test_compare_shows_what_moved(capsys, tmp_path):
    main(["run", "good", "--json", "old.json"])
    content = json.loads((tmp_path / "old.json").read_text())
    content["results"][0]["margin"] = 0.5
    content["results"][1]["verdict"] = "divergent"
    del content["results"][2]
    content["ran"] = 2
    (tmp_path / "new.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["compare", "old.json", "old.json"]) == 0
    assert capsys.readouterr().out == "nothing moved in 3 cells\n"
    assert main(["compare", "old.json", "new.json"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "margin   good / forward   cpu float64   0.25 (bits) -> 0.5 (bits)",
        "verdict  good / forward   cpu float32   identical -> divergent",
        "gone     good / memory   cpu float64   was identical",
    ]
    assert main(["compare", "new.json", "old.json"]) == 0

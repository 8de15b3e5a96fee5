"""Stored reports and cases: written whole, read back equal, refused by name when they are something else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from parity.compare.verdict import Verdict
from parity.report.cases import load_case, reproduce_command, store_case
from parity.report.files import ReportError, write_json, write_text
from parity.report.model import read_report, write_report
from parity.results import Report, Result


def result(**changes: object) -> Result:
    values: dict[str, object] = {
        "pair": "fast",
        "check": "forward",
        "device": "cpu",
        "dtype": "float64",
        "verdict": Verdict.EQUIVALENT,
        "rung": "float64",
        "margin": 0.5,
        "examples": 10,
        "seconds": 1.0,
        "null_gradients": ("a", "b"),
    }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def test_a_report_is_read_back_as_it_was_written(tmp_path):
    report = Report(2, [result()], 3.0, {"threads": 1}, ["one cell is missing"])
    write_report(report, tmp_path / "new" / "parity.json")
    assert read_report(tmp_path / "new" / "parity.json") == report
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["parity.json"]  # no temporary file is left


def test_an_infinite_margin_survives_strict_json(tmp_path):
    write_report(Report(1, [result(margin=math.inf)], 1.0), tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["results"][0]["margin"] is None
    assert read_report(tmp_path / "r.json").results[0].margin == math.inf


def test_fields_of_a_later_version_are_ignored(tmp_path):
    content = Report(1, [result()], 1.0).to_json()
    content["results"][0]["new_field"] = content["new_field"] = 1
    write_json(tmp_path / "r.json", content)
    assert read_report(tmp_path / "r.json").results == [result()]


def _without(name: str) -> dict[str, object]:
    content = Report(1, [result()], 1.0).to_json()
    del content["results"][0][name]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"planned": 1, "ran": 1, "resu', "truncated or no JSON"),
        ("\xff\xfe\x00", "truncated or no JSON"),
        ("[1, 2]", "holds a list"),
        ('{"faults": []}', "field 'planned' is missing"),
        (json.dumps({**Report(1, [], 1.0).to_json(), "ran": 3}), "says 3 cells ran and holds 0"),
        (json.dumps({**Report(1, [], 1.0).to_json(), "planned": True}), "field 'planned' holds True"),
        (json.dumps({**Report(1, [], 1.0).to_json(), "results": [7]}), "a result is 7"),
        (json.dumps(_without("rung")), "field 'rung' is missing"),
        (json.dumps(Report(1, [result()], 1.0).to_json()).replace("equivalent", "fine"), "'fine' is no verdict"),
    ],
)
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "odd.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ReportError, match=message) as caught:
        read_report(path)
    assert "odd.json" in str(caught.value)


def test_a_missing_file_and_an_impossible_folder_are_refused(tmp_path):
    with pytest.raises(ReportError, match=r"cannot read .*gone\.json"):
        read_report(tmp_path / "gone.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"cannot write .*file/x\.json"):
        write_text(tmp_path / "file" / "x.json", "")


def test_a_case_is_stored_under_a_name_that_only_its_content_decides(tmp_path, monkeypatch):
    failing = result(verdict=Verdict.DIVERGENT, example={"seed": 3, "batch": 2})
    first, again = store_case(failing, tmp_path), store_case(failing, tmp_path)
    other = store_case(result(verdict=Verdict.DIVERGENT, example={"seed": 4, "batch": 2}), tmp_path)
    assert first is not None
    assert first == again != other
    stored = load_case(first)
    assert (stored.cell, stored.example) == (failing.cell, failing.example)
    assert stored.versions["parity"]
    monkeypatch.chdir(tmp_path)
    assert reproduce_command(failing, first) == f"python -m parity run fast --check forward --example {first.name}"


def test_without_an_example_the_command_draws_again(tmp_path):
    assert store_case(result(), tmp_path) is None
    assert reproduce_command(result(pair="my pair"), None) == "python -m parity run 'my pair' --check forward"
    assert reproduce_command(result(device="cuda"), None).endswith("--check forward --device cuda")


@pytest.mark.parametrize("content", ["{", "{}", '{"pair": 3}', '"text"'])
def test_a_file_that_is_no_case_is_refused_by_name(tmp_path, content):
    Path(tmp_path, "odd.json").write_text(content)
    with pytest.raises(ReportError, match=r"odd\.json is not a stored parity case"):
        load_case(tmp_path / "odd.json")

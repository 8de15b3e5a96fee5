"""The page of a run: what stands on it and where, what it refuses, and how large it may become."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from page_samples import EVIL, PLATFORM, evil, failing, faults, green, relu, result, training

from parity.cli import main
from parity.compare.verdict import Verdict
from parity.report.files import ReportError, write_json
from parity.report.html import lying_beside, page_of, to_html
from parity.report.model import read_report, write_report
from parity.report.written import write_all
from parity.results import Report

_VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, and all text with the ids it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == [], "every element that is opened is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open) and self.cells:
            self.cells[-1][-1] += f" {data}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, *first: str) -> list[str]:
        """The first row that begins with these cells."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.cells]
        return next(row for row in rows if row[: len(first)] == list(first))


def test_every_cell_shows_its_rung_and_its_margin():
    page = Page(to_html(green()))
    pairs = ["fast", "latent_attn_small", "a_pair_with_quite_a_long_name"]
    assert page.row("check") == ["check", *pairs]
    assert page.row("forward")[1:] == ["\N{ALMOST EQUAL TO} 64 float64 0.4 \N{ALMOST EQUAL TO} 32 noise_floor 0.4"] * 3
    assert page.row("training")[1:] == ["\N{ALMOST EQUAL TO} 64 ensemble 0.5", "-", "-"]
    assert page.row("fields")[1] == "= 64 bits 0"
    assert page.row("device")[1] == "\N{EN DASH} 64 n/a"


def test_a_report_that_passes_shows_margins_trainings_and_what_was_not_applicable():
    page = Page(to_html(green()))
    assert page.text.startswith("Parity: Passed")
    assert "15 of 15 planned cells ran" in page.text
    assert "cuda is absent : fast / device (float64)" in page.text.replace(": fast", " : fast")
    assert page.row("0.5")[1:] == ["fast / training cpu float64", "ensemble", "fc1/output"]
    marks = [attributes for tag, attributes in page.elements if attributes.get("class") in ("mark", "mark wide")]
    assert len(marks) == 14  # whatever was judged; n/a has no margin
    assert [tag for tag, attributes in page.elements if attributes.get("class") == "dot"] == ["circle"] * 6
    assert "actions and values , at worst 0.5 of what is allowed" in page.text
    assert "failure" not in page.text.lower().replace("failed", "")


def test_failures_come_first_and_say_what_the_terminal_says():
    text = to_html(failing())
    page = Page(text)
    assert page.text.startswith("Parity: Divergent")
    order = [text.index(f'id="{name}"') for name in ("problems", "failure-1", "failure-7", "expected", "grid")]
    assert order == sorted(order)
    for said in (
        "9 of 10 planned cells ran",
        "incomplete: 1 of 10 planned cells did not run",
        "First divergence: fc1 (component 'fc1', candidate 'policy.fc1'), input identical",
        "reference at [2, 17] 0 candidate at [2, 17] -0.83 measured, of allowed 2.5e-15 0.41",
        "Likely cause: a ReLU is missing",
        "python -m parity run fast --check forward --example reports/cases/fast-forward-3f2a.json",
        "defined at agents/fast.py:7",
        "241 of 1024 elements, worst |d| 0.83 at [2, 17]",
        "1.6e+14 times what is allowed",
        "it also differs on the reference's own input",
        "expected 2 found 3",
        "Reason: nothing was compiled",
        "RuntimeError: no such layer",
        "fast / device cpu float64: known.txt:1: old bug",
    ):
        assert said in page.text
    assert "4.6e+18" not in page.text  # as in the terminal: no ulps of what is no rounding
    linked = {attributes["href"] for tag, attributes in page.elements if "cell" in (attributes.get("class") or "")
              and tag == "a"}  # fmt: skip
    assert linked == {f"#failure-{number}" for number in range(1, 8)}


def test_a_failed_cell_says_so_in_words():
    page = Page(to_html(failing()))
    failed = "\N{MULTIPLICATION SIGN}"
    both = [f"{failed} {dtype} DIVERGENT float64 1.6e+14" for dtype in (64, 32)]
    assert page.row("forward")[1] == " ".join(both)
    assert page.row("compile")[1] == "? 64 INCONCLUSIVE"
    assert page.row("clipping")[1] == "! 64 ERROR"
    assert page.row("device")[1].startswith(f"{failed} 64 expected")


def test_pictures_name_their_axes_their_scale_and_how_they_were_pooled():
    text = Page(to_html(failing())).text
    assert "step 0 to 3 → row 0 to 1 ↓" in text
    assert "row x step; the largest of the 128 elements there" in text
    assert "row x column; pooled down to the largest of 1 x 2, because the tensor is large. The scale is" in text
    assert "cross: not finite on one side" in text


def test_a_diverging_training_is_marked_where_it_leaves_its_bound():
    elements = Page(to_html(failing())).elements
    assert sum(attributes.get("class") == "over" for _, attributes in elements) == 2  # rollout and weights, update 1
    assert sum(attributes.get("class") == "dot" for _, attributes in elements) == 2
    assert sum(attributes.get("class") == "here" for _, attributes in elements) == 2


@pytest.mark.parametrize("report", [green(), failing(), evil(), Report(3, [], 0.0)], ids=("green", "bad", "evil", "-"))
def test_nothing_is_loaded_or_run(report):
    text = to_html(report, beside={"faults": faults()})
    page = Page(text)
    allowed = {"href": re.compile(r"#[\w-]+|data:,"), "src": re.compile("data:")}
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in allowed:
                assert allowed[name].match(value or "")
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_comes_from_outside_is_text():
    page = Page(to_html(evil()))
    assert page.text.count("<script>alert(1)</script>") > 20
    assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", page.text)


def test_a_stored_report_gives_the_same_page(tmp_path):
    report = failing()
    write_report(report, tmp_path / "parity.json")
    assert page_of(tmp_path / "parity.json") == to_html(report)


def test_numbers_of_a_picture_stand_on_one_line_in_the_file(tmp_path):
    write_report(failing(), tmp_path / "parity.json")
    text = (tmp_path / "parity.json").read_text()
    assert len(text.splitlines()) < 1_000
    assert read_report(tmp_path / "parity.json").results == failing().results


def test_text_that_looks_like_numbers_is_left_alone(tmp_path):
    content = {"text": "[\n 1,\n 2\n]", "list": [[1, 2.5], [], ["a", "[\n1\n]"]]}
    write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text()) == content


def test_a_page_stays_below_2_mb_however_much_fails():
    reason = "<" * 30_000
    wide = relu(torch.rand(512, 640, dtype=torch.float64), (32, 16), cause=reason, reference=reason)
    many = [
        result(f"check{n}", verdict=Verdict.DIVERGENT, divergence=wide, reason=reason, reproduce=reason,
               trajectory=training(*[0.1] * 40), margin=1e9, margin_place="x" * 300)
        for n in range(400)
    ]  # fmt: skip
    text = to_html(Report(400, many, 1.0, PLATFORM, [reason] * 400))
    assert len(text.encode()) < 2_000_000
    assert "395 more failures are in the grid below" in text


def test_pictures_are_left_out_before_there_are_too_many():
    wide = relu(torch.rand(512, 640, dtype=torch.float64), (32, 16))
    report = Report(40, [result(f"check{n}", verdict=Verdict.DIVERGENT, divergence=wide) for n in range(40)], 1.0)
    text = to_html(report)
    assert len(text.encode()) < 2_000_000
    assert text.count("The difference is not drawn here") == 40 - text.count('class="heat"') // 2 > 0


def test_the_record_of_a_divergence_stays_small():
    assert len(json.dumps(relu(torch.rand(4096, 4096, dtype=torch.float64), (64, 64)))) < 40_000


def test_the_kill_matrix_counts_what_each_check_sees():
    page = Page(to_html(green(), beside={"faults": faults()}))
    assert page.row("pair", "faults") == ["pair", "faults", "forward", "memory"]
    assert page.row("example", "3") == ["example", "3", "1", "2"]
    assert page.row("it alone") == ["it alone", "", "·", "2"]
    assert page.row("relu_missing_0") == ["relu_missing_0", "●", "●", "yes"]
    assert page.row("relu_missing_2") == ["relu_missing_2", "", "", "no"]
    assert page.row("m:relu_missing:1")[-1] == "it is not: a gap"
    assert page.row("means")[1] == "named faults seen"


def test_what_lies_beside_a_report_is_shown_with_it(tmp_path):
    write_json(tmp_path / "faults.json", faults())
    alarms = {"examples": 500, "failures": 0, "upper_bound_95": 0.006, "platform": PLATFORM,
              "per_check": {"forward": {"examples": 500, "failures": 0, "worst_margin": {"float64": 0.4}}}}  # fmt: skip
    write_json(tmp_path / "false-alarms.json", alarms)
    write_all(green(), tmp_path / "parity")
    assert sorted(path.suffix for path in tmp_path.glob("parity.*")) == [".html", ".json", ".md"]
    page = Page((tmp_path / "parity.html").read_text())
    assert "0 of 500 clean examples failed; with 95 % confidence the rate is below 0.006" in page.text
    assert page.row("forward", "500") == ["forward", "500", "0", "float64 0.4"]
    assert page.row("example", "3")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"figures": {}, "answers": [3], "date": "x", "seconds": 1}',
     '{"figures": {"means": 3}, "answers": [], "date": "x", "seconds": 1}'],
)  # fmt: skip
def test_what_is_damaged_beside_a_report_is_named_on_it(tmp_path, content):
    (tmp_path / "faults.json").write_text(content)
    (remark,) = lying_beside(tmp_path)["remarks"]
    write_all(green(), tmp_path / "parity")
    text = Page((tmp_path / "parity.html").read_text()).text
    assert "faults.json is not a kill matrix" in text
    assert " ".join(remark.split()) in text
    assert "make it anew" in text or "was it written by something else?" in text


def _damaged(**changes: Any) -> str:
    content = failing().to_json()
    content["results"][0]["divergence"].update(changes)
    return json.dumps(content)


@pytest.mark.parametrize(
    "content",
    {
        "truncated": '{"planned": 1, "ran": 1, "resu',
        "foreign": '{"name": "foreign"}',
        "faults": '{"figures": {}, "answers": [{}], "date": "x", "seconds": 1}',
        "alarms": '{"examples": 1, "failures": 0, "per_check": {"forward": 3}}',
        "collapse": '{"arms": [], "verdict": "passed", "agent_steps": 1}',
        "picture": _damaged(pictures=[{"axes": ["row"]}]),
        "pictures": _damaged(pictures=3),
        "notes": _damaged(notes=7),
        "problems": json.dumps({**failing().to_json(), "problems": 3}),
        "points": json.dumps(green().to_json()).replace('"points": [', '"points": [3, '),
    }.items(),
    ids=lambda entry: entry[0],
)
def test_a_file_that_is_none_of_ours_is_refused_by_name(tmp_path, capsys, content):
    (tmp_path / "odd.json").write_text(content[1])
    assert main(["report", str(tmp_path / "odd.json"), "--html", str(tmp_path / "out.html")]) == 2
    captured = capsys.readouterr()
    assert re.search(r"parity: .*odd\.json is not a ", captured.err)
    assert "make it anew" in captured.err or "was it written by something else?" in captured.err
    assert not (tmp_path / "out.html").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    write_report(green(), tmp_path / "parity.json")
    (tmp_path / "file").write_text("")
    assert main(["report", str(tmp_path / "parity.json"), "--html", str(tmp_path / "file" / "p.html")]) == 2
    assert re.search(r"cannot write .*file/p\.html: .*; check the folder and its rights", capsys.readouterr().err)
    with pytest.raises(ReportError, match="cannot write"):
        write_all(green(), tmp_path / "file" / "parity")


@pytest.mark.parametrize("name", ["parity", "faults", "false-alarms", "collapse"])
def test_every_stored_sample_has_a_page(tmp_path, name):
    out = tmp_path / "new" / "page.html"
    assert main(["report", f"{Path(__file__).parents[3]}/reports/sample/{name}.json", "--html", str(out)]) == 0
    text = out.read_text()
    assert Page(text).text
    assert len(text.encode()) < 2_000_000


def test_a_report_of_a_version_that_drew_nothing_is_shown(tmp_path):
    content = failing().to_json()
    for entry in content["results"]:
        del entry["trajectory"]
        for name in ("pictures", "source"):
            (entry["divergence"] or {}).pop(name, None)
    write_json(tmp_path / "old.json", content)
    assert "DIVERGENT" in Page(page_of(tmp_path / "old.json")).text


def test_an_infinite_margin_is_shown():
    report = dataclasses.replace(green(), results=[result(margin=float("inf"), verdict=Verdict.DIVERGENT)])
    assert "\N{INFINITY}" in Page(to_html(report)).row("forward")[1]


def test_evil_text_beside_a_report_is_text():
    page = Page(to_html(green(), beside={"faults": faults(EVIL), "remarks": [EVIL]}))
    assert "<script>alert(1)</script>" in page.text

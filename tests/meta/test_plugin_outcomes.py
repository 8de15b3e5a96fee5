"""What the plugin makes of results: tests, summary, report files, exit status; serial and with workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import parity.suite.generate
import parity.suite.manifest
from parity.pairs.recipe import Pair


def report_at(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "parity.json").read_text())
    report["seconds"] = report["platform"] = 0
    for result in report["results"]:
        result["seconds"] = 0
    return report


@pytest.mark.slow
def test_a_divergence_fails_its_test_and_is_shown_stored_and_reproducible(pytester, run_stubs):
    serial = run_stubs("good", "bad", args=("--parity-report=out",))
    assert serial.ret == 1
    serial.assert_outcomes(passed=3, failed=1, skipped=2 + 6)
    serial.stdout.re_match_lines(
        [
            r"DIVERGENT  bad / plain   cpu float64",
            r"  first divergence  fc1   in forward",
            r"    size: reference 1, candidate 3",
            r"  reproduce  python -m parity run bad --check plain --example out/cases/bad-plain-....\.json",
            r"check   good +bad",
            r"plain   bits / bits +DIVERGENT / DIVERGENT",
            r"quiet   bits +bits",
            r"needy   n/a +n/a",
            r"planned 8, ran 8: 4 identical, 2 not_applicable, 2 divergent",
            r"weakest margin 0.25 of 1 at good / plain   cpu float64, fc1/output .*",
            r"skipped with other devices: 8 cells",
        ]
    )
    first = report_at(pytester.path / "out")
    assert (first["planned"], first["ran"], first["problems"]) == (8, 8, [])
    assert "DIVERGENT  bad / plain" in (pytester.path / "out/parity.md").read_text()
    page = (pytester.path / "out/parity.html").read_text()
    assert "fc1, in forward" in page
    assert "|candidate &minus; reference|, row x column" in page
    stored = json.loads(next((pytester.path / "out/cases").iterdir()).read_text())
    assert stored["example"] == {"number": 3}

    parallel = run_stubs("good", "bad", args=("--parity-report=out", "-n2", "--dist=worksteal"))
    assert parallel.ret == 1
    assert report_at(pytester.path / "out") == first
    divergence = next(result["divergence"] for result in first["results"] if result["divergence"])
    assert divergence["pictures"][0]["values"] == [[0.0, 1.5], ["inf", 2.5]]
    parallel_page = (pytester.path / "out/parity.html").read_text()
    assert parallel_page.count('class="heat"') == page.count('class="heat"') == 2


@pytest.mark.slow
@pytest.mark.parametrize("args", [("-x",), ("--maxfail=1", "-n1")], ids=["serial", "xdist"])
def test_a_run_that_stops_early_is_incomplete(pytester, run_stubs, args):
    """pytest's own options leave planned cells unjudged: they must not look like a complete run."""
    result = run_stubs("bad", args=(*args, "--parity-report=out", "--tb=no"))
    assert result.ret != 0
    result.stdout.re_match_lines([r"DIVERGENT  bad / plain .*", r"PROBLEM  incomplete: 2 of 4 planned cells did.*"])
    assert (report_at(pytester.path / "out")["planned"], report_at(pytester.path / "out")["ran"]) == (4, 2)


def test_a_pull_request_is_annotated(run_stubs, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run_stubs("bad", args=("--parity-checks=plain",))
    lines = [line for line in result.outlines if line.startswith("::error ")]
    assert [line.partition("::DIVERGENT")[0] for line in lines] == [
        f"::error title=divergent%3A bad / plain (cpu {dtype})" for dtype in ("float64", "float32")
    ]


def test_a_planned_cell_that_does_not_run_fails_the_session(pytester, run_stubs):
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.originalname == "test_quiet":
                    item.add_marker(pytest.mark.skip(reason="not today"))
        """
    )
    result = run_stubs("good")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["PROBLEM  incomplete: 1 of 4 planned cells did not run: good / quiet   cpu float64"])


@pytest.mark.slow
def test_a_crashed_worker_leaves_its_cells_not_run(run_stubs):
    crash = "import os\nCHECKS['quiet'] = Check('quiet', '', draw, lambda case, example: os._exit(3))\n"
    body = crash + "globals().update(parity_tests([stub('good')], checks=CHECKS))\n"
    result = run_stubs(args=("-n1", "--max-worker-restart=0"), body=body)
    assert result.ret != 0
    result.stdout.fnmatch_lines(
        ["PROBLEM  incomplete: 2 of 4 planned cells did not run: good / quiet   cpu float64, *"]
    )


def test_expected_failures_are_reported_apart_and_do_not_fail(pytester, run_stubs):
    result = run_stubs("bad", expected="# known\nbad/pl*/*  upstream bug 12\n", args=("--parity-report=out",))
    assert result.ret == 0
    result.stdout.re_match_lines([r"failed as expected", r"plain   expected / expected", r".*2 failed as expected"])
    assert "upstream bug 12" in report_at(pytester.path / "out")["results"][0]["expected_failure"]


def test_stale_expected_failures_are_errors(run_stubs):
    result = run_stubs("good", expected="good/plain/float64  was broken once\nnobody/*/*  a pair that is gone\n")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "UNEXPECTED PASS  good / plain   cpu float64",
            "PROBLEM  expected.txt:2: expected failure 'nobody/[*]/[*]'*matches no cell; correct or remove the line",
            "PROBLEM  expected.txt:1: expected failure 'good/plain/float64'*is stale*",
        ]
    )


def test_a_whole_run_is_compared_with_the_manifest(run_stubs, monkeypatch):
    good = Pair("good", recipe=None, reference=None, candidate=None, components=(), generate=None)  # type: ignore[arg-type]
    monkeypatch.setattr(parity.suite.generate, "registered_pairs", lambda: {"good": good})
    body = "globals().update(parity_tests(checks=CHECKS))\n"

    listed = {"good": ["gone/float64", "needy/float64", "plain/float32", "plain/float64", "quiet/float64"]}
    monkeypatch.setattr(parity.suite.manifest, "read_manifest", lambda: listed)
    shrunk = run_stubs(body=body, args=("-m", "not nightly"))
    assert shrunk.ret == 1
    shrunk.stdout.fnmatch_lines(["PROBLEM  not planned on cpu and in the manifest: good/gone/float64; *--write*"])
    assert run_stubs(body=body, args=("-k", "quiet")).ret == 0
    assert run_stubs(body=body, args=("--parity-checks=quiet",)).ret == 0
    assert run_stubs(body=body, args=("test_stubs.py::test_quiet",)).ret == 0

    monkeypatch.setattr(parity.suite.manifest, "read_manifest", lambda: {"good": ["plain/float64"]})
    grown = run_stubs(body=body)
    assert grown.ret == 0
    grown.stdout.fnmatch_lines(["NOTE  planned and not in the manifest: good/needy/float64, good/plain/*--write*"])

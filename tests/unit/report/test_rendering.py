"""The table, the closing lines and the Markdown of a run."""

from __future__ import annotations

from parity.compare.verdict import Verdict
from parity.report.markdown import to_markdown
from parity.report.terminal import render
from parity.results import Report, Result


def result(check: str, verdict: Verdict, rung: str | None, margin: float = 0.0, **more: str) -> Result:
    values = {"pair": "fast", "device": "cpu", "dtype": "float64", **more}
    return Result(check=check, verdict=verdict, rung=rung, margin=margin, examples=1, seconds=0.0, **values)  # type: ignore[arg-type]


MIXED = Report(
    planned=7,
    seconds=12.34,
    problems=["incomplete: 1 of 7 planned cells did not run"],
    platform={"versions": {"torch": "2.13"}, "threads": 1},
    results=[
        result("forward", Verdict.EQUIVALENT, "noise_floor", 0.4, dtype="float32", margin_place="fc1/output"),
        result("forward", Verdict.EQUIVALENT, "float64", 0.2),
        result("forward", Verdict.IDENTICAL, "bits", pair="example"),
        result("forward", Verdict.IDENTICAL, "bits", device="cuda"),
        result("memory", Verdict.DIVERGENT, "float64", 9.0, reproduce="run it"),
        result("memory", Verdict.DIVERGENT, "float64", 9.0, pair="example", expected_failure="known.txt:1: old bug"),
    ],
)


def test_the_whole_text():
    assert render(MIXED) == (
        "DIVERGENT  fast / memory   cpu float64\n"
        "  reproduce  run it\n"
        "\n"
        "failed as expected\n"
        "  example / memory   cpu float64: known.txt:1: old bug\n"
        "\n"
        "check     fast                    example    fast cuda\n"
        "forward   float64 / noise_floor   bits       bits\n"
        "memory    DIVERGENT               expected   -\n"
        "\n"
        "planned 7, ran 6: 2 identical, 2 equivalent, 1 divergent, 1 failed as expected\n"
        "weakest margin 0.4 of 1 at fast / forward   cpu float32, fc1/output   in 12.3 s\n"
        "\n"
        "PROBLEM  incomplete: 1 of 7 planned cells did not run"
    )
    assert "reproduce" not in render(MIXED, failures=False)


def test_without_results_nothing_is_claimed():
    assert render(Report(2, [], 0.0)) == "planned 2, ran 0\nno margin: nothing passed   in 0.0 s"


def test_the_exit_code_follows_the_worst_and_pardons_what_was_expected():
    expected = result("memory", Verdict.DIVERGENT, "float64", expected_failure="known.txt:1: old bug")
    assert MIXED.exit_code == 1
    assert Report(1, [expected], 0.0).exit_code == 0
    assert Report(2, [expected], 0.0).exit_code == 2
    assert Report(1, [expected], 0.0, problems=["stale"]).exit_code == 2
    broken = result("memory", Verdict.ERROR, None, expected_failure="known.txt:1: old bug")
    assert Report(1, [broken], 0.0).exit_code == 2


def test_markdown_has_one_table_and_the_failures():
    text = to_markdown(MIXED)
    assert text.startswith("## Parity: divergent\n")
    assert "| forward | float64 / noise_floor | bits | bits |" in text
    assert "```text\nDIVERGENT  fast / memory   cpu float64\n  reproduce  run it\n```" in text
    assert "- **problem**: incomplete: 1 of 7" in text
    assert "- failed as expected: example / memory" in text


def test_markdown_stays_small_however_much_fails():
    reason = "``` | " + "long " * 20_000
    results = [result(f"check{i}", Verdict.ERROR, None, reason=reason) for i in range(400)]
    text = to_markdown(Report(400, results, 1.0, problems=[reason] * 400))
    assert len(text.encode()) < 2**20
    assert text.count("```text") == 10
    assert "390 more failures" in text

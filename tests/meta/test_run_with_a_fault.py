"""``run --fault``: what the README shows of a failure, on one command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parity.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_failure_that_the_readme_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    section = README.partition("\n## A failure, and how to read it\n")[2].partition("\n## ")[0]
    (command,) = re.findall(r"^python -m parity (run .*)$", section, re.MULTILINE)
    assert main([*command.split(), "--report", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    shown = section.partition("DIVERGENT")[2].partition("```")[0]
    for line in shown.splitlines():
        if "differ" not in line and "measured" not in line and "reproduce" not in line:  # these hold drawn numbers
            assert line in said
    (again,) = re.findall(r"reproduce  python -m parity (run \S+ --check \S+ --example \S+ --fault \S+)", said)[:1]
    assert main(again.split()) == 1
    assert main([word for word in again.split() if word not in ("--fault", "relu_missing_after_fc1")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fast", "--fault", "relu_missing"],
            "no fault matches 'relu_missing'; did you mean 'relu_missing_after_fc1'?",
        ),
        (["*", "--fault", "relu_missing_after_fc1"], "is planted in one pair that has a catalogue; name that pair"),
    ],
)
def test_a_fault_that_is_not_there_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err

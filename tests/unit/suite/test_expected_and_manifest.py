"""The file of expected failures, and the manifest."""

from __future__ import annotations

import pytest

from parity.compare.verdict import Misuse
from parity.pairs.registry import shipped_pairs
from parity.results import Cell
from parity.runner import plan
from parity.suite.expected import expectation, read_expected_failures
from parity.suite.manifest import gained, lost, manifest_of, read_manifest

CELL = Cell("fast", "forward", "cpu", "float64")


def test_lines_are_globs_by_part_with_a_reason(tmp_path):
    path = tmp_path / "known.txt"
    path.write_text("# known\n\nfast/mem*/*   an upstream bug, not ours\n  */forward/float64 rounding\n")
    first, second = read_expected_failures(path)
    assert (first.pattern, first.reason, first.source) == ("fast/mem*/*", "an upstream bug, not ours", f"{path}:3")
    assert expectation(CELL, (first, second)) is second
    assert not first.matches(Cell("fast", "forward/mem", "cpu", "float64"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fast/forward/*", "known.txt:1: 'fast/forward/\\*' has no reason"),
        ("fast/forward a reason", "known.txt:1: 'fast/forward' is not of the form"),
        ("fast//float64 a reason", "known.txt:1: 'fast//float64' is not of the form"),
    ],
)
def test_other_lines_are_refused_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "known.txt"
    path.write_text(line)
    with pytest.raises(Misuse, match=message):
        read_expected_failures(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Misuse, match=r"gone\.txt"):
        read_expected_failures(tmp_path / "gone.txt")


def test_the_manifest_shows_what_went_and_what_came():
    cells = [CELL, Cell("fast", "memory", "cpu", "float64"), Cell("theirs", "forward", "cpu", "float64")]
    listed = {"fast": ["forward/float32", "forward/float64"]}
    assert manifest_of(cells[:2]) == {"fast": ["forward/float64", "memory/float64"]}
    assert lost(listed, cells) == ["fast/forward/float32"]
    assert gained(listed, cells) == ["fast/memory/float64"]  # other people's pairs are not the manifest's business


def test_the_committed_manifest_holds_what_the_shipped_pairs_come_to():
    cells = plan(shipped_pairs())
    assert cells, "the package is not installed: no entry point offers its pairs"
    assert read_manifest() == manifest_of(cells)

"""The plugin's command line options. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from parity.compare.verdict import Misuse
from parity.results import Cell
from parity.suite.expected import ExpectedFailure, read_expected_failures

DEVICES = ("cpu", "cuda")
DEFAULT_REPORTS = Path("reports")


@dataclass(frozen=True)
class Options:
    """What a run selects, and where it reports; ``report`` is None when no report was asked for."""

    devices: tuple[str, ...] = ("cpu",)
    require_gpu: bool = False
    checks: str = "*"
    pairs: str = "*"
    report: Path | None = None
    expected: tuple[ExpectedFailure, ...] = ()
    budget: float | None = None  # seconds of the whole run; what the plan leaves of them goes into more examples
    changed: str | None = None  # base of a change: only pairs that it touches are judged; empty: the main branch

    @property
    def cases(self) -> Path:
        """Where failing examples are stored, report or no report: a failure nobody can repeat helps nobody."""
        return (self.report or DEFAULT_REPORTS) / "cases"

    @property
    def report_name(self) -> str:
        """File name of the report, without suffix: a run on the GPU alone does not replace the report of the CPU."""
        return "parity-gpu" if self.devices == ("cuda",) else "parity"

    def names(self, cell: Cell) -> bool:
        """True when the pair and check options select a cell."""
        return fnmatchcase(cell.pair, self.pairs) and fnmatchcase(cell.check, self.checks)

    def unselected(self, device: str) -> str:
        """Why cells of a device are skipped; empty when they are not."""
        if device in self.devices or (device == "cuda" and self.require_gpu):
            return ""
        return f"device {device} is not selected; add --parity-device={device} or --parity-device=all"


OPTIONS = pytest.StashKey[Options]()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("parity", "parity of policies")
    group.addoption(
        "--parity-device",
        choices=(*DEVICES, "all"),
        default="cpu",
        help="device to judge on; cells of the others are skipped (default: cpu)",
    )
    group.addoption(
        "--parity-require-gpu",
        action="store_true",
        help="fail instead of skipping what needs a GPU, selected or not",
    )
    group.addoption("--parity-checks", metavar="GLOB", default="*", help="judge only checks of matching name")
    group.addoption("--parity-pairs", metavar="GLOB", default="*", help="judge only pairs of matching name")
    group.addoption(
        "--parity-report",
        metavar="DIR",
        help="write parity.json, .md and .html there (parity-gpu.* for --parity-device=cuda); failing examples go to "
        "DIR/cases, or to reports/cases without this option",
    )
    group.addoption(
        "--parity-expected-failures",
        metavar="FILE",
        help="lines 'pair/check/dtype reason' (globs allowed) of cells that are known to fail; a line that no longer "
        "holds is an error",
    )
    group.addoption(
        "--parity-budget",
        metavar="SECONDS",
        type=float,
        help="once everything planned has run, spend the rest of so many seconds on more examples, drawn afresh",
    )
    group.addoption(
        "--parity-changed",
        metavar="BASE",
        nargs="?",
        const="",
        help="judge only pairs that a change touches: what they import or read, or the harness, changed since BASE, "
        "committed or not (default: since the work left the main branch); write --parity-changed=BASE",
    )


def read_options(config: pytest.Config) -> Options:
    """Options as given.

    Raises:
        pytest.UsageError: the file of expected failures cannot be used.
    """

    def given(name: str) -> Any:
        return config.getoption(name)

    device, report, expected = given("--parity-device"), given("--parity-report"), given("--parity-expected-failures")
    try:
        failures = read_expected_failures(Path(expected)) if expected else ()
    except Misuse as error:
        raise pytest.UsageError(str(error)) from error
    return Options(
        devices=DEVICES if device == "all" else (device,),
        require_gpu=given("--parity-require-gpu"),
        checks=given("--parity-checks"),
        pairs=given("--parity-pairs"),
        report=Path(report) if report else None,
        expected=failures,
        budget=given("--parity-budget"),
        changed=given("--parity-changed"),
    )

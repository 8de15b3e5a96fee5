"""Expected failures: a file that names cells known to fail, each with a reason. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from parity.compare.verdict import Misuse
from parity.results import Cell


@dataclass(frozen=True)
class ExpectedFailure:
    """One line: ``pattern`` is ``pair/check/dtype``, each part a glob; ``source`` is ``file:line``."""

    pattern: str
    reason: str
    source: str

    def matches(self, cell: Cell) -> bool:
        """True when the line speaks of this cell, on whichever device."""
        names = (cell.pair, cell.check, cell.dtype)
        return all(fnmatchcase(name, part) for name, part in zip(names, self.pattern.split("/"), strict=True))

    def __str__(self) -> str:
        return f"{self.source}: expected failure {self.pattern!r} ({self.reason})"


def read_expected_failures(path: Path) -> tuple[ExpectedFailure, ...]:
    """Read a file of lines ``pair/check/dtype  reason``; empty lines and lines that start with ``#`` say nothing.

    Raises:
        Misuse: the file cannot be read, or a line has no reason or another form; the message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"cannot read the expected failures in {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pattern, *reason = line.split(maxsplit=1)
        if pattern.count("/") != 2 or not all(pattern.split("/")):
            raise Misuse(f"{path}:{number}: {pattern!r} is not of the form pair/check/dtype (each part may be a glob)")
        if not reason:
            raise Misuse(f"{path}:{number}: {pattern!r} has no reason; say after it why the failure is expected")
        found.append(ExpectedFailure(pattern, reason[0].strip(), f"{path}:{number}"))
    return tuple(found)


def expectation(cell: Cell, expected: tuple[ExpectedFailure, ...]) -> ExpectedFailure | None:
    """The first line that speaks of a cell, or None."""
    return next((line for line in expected if line.matches(cell)), None)

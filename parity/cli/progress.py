"""Progress on standard error: one line that is overwritten on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from parity.results import Result

_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


class Progress:
    """Counts cells while they run.

    Args:
        total: how many there will be.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._terminal and not os.environ.get("NO_COLOR")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._terminal:
            self._write("\r\x1b[K")

    def starts(self, what: object) -> None:
        """Say what runs now; only a terminal shows it."""
        if self._terminal:
            self._write(f"\r\x1b[K{self._count()}  {what} ...")

    def ended(self, result: Result, note: str = "") -> None:
        """Say how a cell ended; a terminal keeps only what failed."""
        self._done += 1
        self._failed += not result.accepted
        line = f"{self._count()}  {result.cell}   {self._painted(result)}   {result.seconds:.1f} s{note}"
        if not self._terminal:
            self._write(f"{line}\n")
        else:
            self._write(f"\r\x1b[K{line}" + ("" if result.accepted else "\n"))

    def _count(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"[{self._done}/{self._total}{failed}]"

    def _painted(self, result: Result) -> str:
        verdict = str(result.verdict)
        return f"{_GREEN if result.accepted else _RED}{verdict}{_PLAIN}" if self._colour else verdict

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class Status:
    """Progress on standard error: one line that is rewritten on a terminal, lines elsewhere. Uses no colour."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._write("\r\x1b[K")

    def show(self, text: str) -> None:
        """Say where things stand."""
        self._write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

"""``report`` and ``compare``: reading stored reports."""

from __future__ import annotations

import argparse
import math

from parity.report.files import write_text
from parity.report.markdown import to_markdown
from parity.report.model import read_report
from parity.report.terminal import render
from parity.results import Result

#: Margins are rounding noise divided by a measured floor: smaller moves than this factor say nothing.
MOVED = 1.05


def show(arguments: argparse.Namespace) -> int:
    """Show a report, or write it as a page; the exit code is 0 whatever it says, because showing it succeeded."""
    if arguments.html is not None:
        from parity.report.html import page_of

        write_text(arguments.html, page_of(arguments.file))
        return 0
    report = read_report(arguments.file)
    print(to_markdown(report) if arguments.markdown else render(report), end="" if arguments.markdown else "\n")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Show what moved between two reports; 1 when a cell that passed fails now, or is gone."""
    old = {result.cell: result for result in read_report(arguments.old).results}
    new = {result.cell: result for result in read_report(arguments.new).results}
    lines, worse = [], False
    for cell, before in old.items():
        after = new.get(cell)
        if after is None:
            lines.append(f"gone     {cell}   was {before.verdict}")
            worse = True
        elif before.verdict != after.verdict:
            lines.append(f"verdict  {cell}   {before.verdict} -> {after.verdict}")
            worse |= before.accepted and not after.accepted
        elif _moved(before, after):
            lines.append(f"margin   {cell}   {_margin(before)} -> {_margin(after)}")
    lines += [f"new      {cell}   {after.verdict}" for cell, after in new.items() if cell not in old]
    print("\n".join(lines) if lines else f"nothing moved in {len(new)} cells")
    return 1 if worse else 0


def _moved(before: Result, after: Result) -> bool:
    if before.rung != after.rung:
        return True
    low, high = sorted((before.margin, after.margin))
    return not math.isclose(low, high, abs_tol=1e-12) and (low == 0.0 or high / low > MOVED)


def _margin(result: Result) -> str:
    return f"{result.margin:.3g} ({result.rung or 'not judged'})"

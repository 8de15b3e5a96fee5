"""``record``: keep a golden trace of one side."""

from __future__ import annotations

import argparse

from parity.cli.progress import Status
from parity.compare.verdict import Misuse
from parity.golden.record import record
from parity.golden.repository import repository_of, revision_of
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_pairs


def keep(arguments: argparse.Namespace) -> int:
    """Record, and say what was."""
    pair = the_pair(arguments.pair)
    with Status() as status:
        written = record(
            pair,
            arguments.side,
            arguments.to,
            checks=arguments.check,
            examples=arguments.examples,
            seed=arguments.seed,
            origin={"revision": arguments.origin or _revision(pair, arguments.side)},
            tell=lambda cell: status.show(f"recording {cell}"),
        )
    checks = list(dict.fromkeys(cell.check for cell in written.cells))
    print(
        f"{written.path}: {arguments.side} of {pair.name}, {len(written.cells)} cells ({', '.join(checks)}), "
        f"{written.examples} examples, {written.size / 1e6:.1f} MB"
    )
    return 0


def the_pair(pattern: str) -> Pair:
    """The one pair that is meant.

    Raises:
        Misuse: none or several match.
    """
    pairs = select_pairs(pattern)
    if len(pairs) > 1:
        raise Misuse(f"a recording is of one pair, and {pattern!r} matches {', '.join(pair.name for pair in pairs)}")
    return pairs[0]


def _revision(pair: Pair, side: str) -> str:
    try:
        return revision_of(repository_of(pair, side))
    except Misuse:  # code may come from no repository; then nobody knows
        return ""

"""Spending what is left of a time budget on more examples, fairly over what was judged. Does not import torch."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.results import Cell, Result

#: Examples of a cell at a time: few, so that every cell comes up again and again.
AT_A_TIME = 4


@dataclass(frozen=True)
class Judged:
    """A cell as it was judged, and how to judge it again: ``again(seed=..., max_examples=...)``."""

    result: Result
    again: Callable[..., Result]


@dataclass
class Extra:
    """What the time that was left came to; ``results`` has one per cell that was judged again."""

    examples: int = 0
    seconds: float = 0.0
    results: list[Result] = field(default_factory=list)

    def describe(self) -> str:
        """One line."""
        failed = sum(not result.verdict.passed for result in self.results)
        found = f"; {failed} of them failed" if failed else ""
        return (
            f"beyond the plan: {self.examples} more examples in {self.seconds:.0f} s of the budget, "
            f"of {len(self.results)} cells{found}"
        )

    def joined(self, other: Extra) -> Extra:
        """Two processes' together."""
        return Extra(self.examples + other.examples, self.seconds + other.seconds, [*self.results, *other.results])

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping, to cross from a worker."""
        return {**vars(self), "results": [result.to_json() for result in self.results]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Extra:
        """The inverse of ``to_json``."""
        return cls(**{**content, "results": [Result.from_json(result) for result in content["results"]]})


def spend(judged: Sequence[Judged], until: float) -> Extra:
    """Judge cells again on fresh examples until a time, pair by pair, each cell for about as long as the others.

    Args:
        judged: what ran in this process; only what passed on examples is judged again, up to its first failure.
        until: by ``time.perf_counter``. No round begins that would not end by then, as far as one can tell.
    """
    started, random_seed = time.perf_counter(), random.SystemRandom()
    extra: dict[Cell, Result] = {}
    rounds = [entry for entry in judged if entry.result.verdict.passed and entry.result.examples]
    pairs = list(dict.fromkeys(entry.result.pair for entry in rounds))
    for number, pair in enumerate(pairs):  # builds of one pair are kept until the next one's turn
        now = time.perf_counter()
        end = now + (until - now) / (len(pairs) - number)
        open_cells = [entry for entry in rounds if entry.result.pair == pair]
        spent = {entry.result.cell: 0.0 for entry in open_cells}
        while open_cells:
            entry = min(open_cells, key=lambda entry: spent[entry.result.cell])
            cell = entry.result.cell
            known = extra.get(cell, entry.result)
            if time.perf_counter() + AT_A_TIME * known.seconds / known.examples > end:
                open_cells.remove(entry)
                continue
            found = entry.again(seed=random_seed.getrandbits(32), max_examples=AT_A_TIME)
            spent[cell] += found.seconds
            extra[cell] = together(extra.get(cell), found)
            if not found.verdict.passed:
                open_cells.remove(entry)
    return Extra(sum(result.examples for result in extra.values()), time.perf_counter() - started, list(extra.values()))


def together(first: Result | None, second: Result) -> Result:
    """Two judgements of one cell as one: a failure is a failure, else the weaker margin."""
    if first is None:
        return second
    failing = next((result for result in (first, second) if not result.verdict.passed), None)
    base = failing or max((first, second), key=lambda result: (result.rung != "bits", result.margin))
    return dataclasses.replace(base, examples=first.examples + second.examples, seconds=first.seconds + second.seconds)

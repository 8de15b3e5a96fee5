"""What a check is, and the decorator-free way to declare one: a module-level ``CHECK``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import settings
from hypothesis.strategies import SearchStrategy

from parity.checks.case import Case
from parity.compare.verdict import Misuse
from parity.pairs.recipe import Pair, Recording
from parity.profiles import profile_in_force

#: From so many examples on a profile has the time for what is left out by day.
NIGHTLY_EXAMPLES = 100

Example = dict[str, Any]
"""A drawn example: JSON-able, so that a failure can be stored and replayed."""


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: as in test ids and reports.
        summary: one line for ``list``.
        examples: makes the strategy of examples for a pair and its recordings.
        judge: judges one example; returns when it holds, raises DivergenceFound when not.
        dtypes: the dtypes it runs in; float64 finds logic, float32 is judged by the noise floor.
        needs: capabilities without which it is not applicable.
        share: examples per example of the profile; below 1 where one example is exhaustive or slow.
        devices: where it judges anything; not applicable on the others.
        nightly_pairs: names (globs) of pairs for which only the nightly profile plans it.
        own: whether a user added it, for described pairs.

    Raises:
        Misuse: there is no dtype, so no cell: under pytest that would be a skip without a reason.
    """

    name: str
    summary: str
    examples: Callable[[Pair, dict[str, Recording]], SearchStrategy[Example]]
    judge: Callable[[Case, Example], None]
    dtypes: tuple[str, ...] = ("float64",)
    needs: frozenset[str] = frozenset()
    share: float = 1.0
    devices: tuple[str, ...] = ("cpu", "cuda")
    nightly_pairs: tuple[str, ...] = ()
    own: bool = False

    def __post_init__(self) -> None:
        if not self.dtypes:
            raise Misuse(f"check {self.name!r}: no dtype is given, so it would judge nothing; give 'float64' at least")

    def applies(self, pair: Pair) -> bool:
        """Whether there can be cells of this check for a pair."""
        return pair.described or not self.own

    def planned(self, pair: Pair) -> bool:
        """Whether there are cells of this check for a pair under the profile in force."""
        if not self.applies(pair):
            return False
        return not any(fnmatchcase(pair.name, name) for name in self.nightly_pairs) or nightly()


def nightly() -> bool:
    """Whether the hypothesis profile that cells are judged under draws as many examples as the nightly one."""
    with profile_in_force():
        return settings.default is not None and settings.default.max_examples >= NIGHTLY_EXAMPLES


_own: dict[str, Check] = {}


def add_check(check: Check) -> None:
    """Add a check for this process; described pairs are judged by it.

    Raises:
        Misuse: another one has that name already.
    """
    held = _own.get(check.name)
    if held is not None and inspect.unwrap(held.judge).__code__ != inspect.unwrap(check.judge).__code__:
        raise Misuse(f"a check named {check.name!r} is there already; give one of the two another name")
    _own[check.name] = check


def own_checks() -> dict[str, Check]:
    """The checks that ``add_check`` was given in this process, by name."""
    return dict(_own)

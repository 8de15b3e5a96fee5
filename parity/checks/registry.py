"""What a check is, and the decorator-free way to declare one: a module-level ``CHECK``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis.strategies import SearchStrategy

from parity.checks.case import Case
from parity.pairs.recipe import Pair, Recording

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
    """

    name: str
    summary: str
    examples: Callable[[Pair, dict[str, Recording]], SearchStrategy[Example]]
    judge: Callable[[Case, Example], None]
    dtypes: tuple[str, ...] = ("float64",)
    needs: frozenset[str] = frozenset()
    share: float = 1.0

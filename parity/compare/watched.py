"""Values that users watch because no hook on a module sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parity.compare.verdict import Misuse


@dataclass(frozen=True)
class Watched:
    """``read(policy)`` after each call of a component of a pair, or of the policy where ``component`` is empty."""

    pair: str
    name: str
    component: str
    read: Callable[[Any], Any]


_watched: dict[tuple[str, str], Watched] = {}


def add_watched(watched: Watched) -> None:
    """Watch a value for this process.

    Raises:
        Misuse: the pair has another of that name.
    """
    key = watched.pair, watched.name
    if key in _watched and _watched[key].read.__code__ != watched.read.__code__:
        raise Misuse(f"a probe named {watched.name!r} is declared for pair {watched.pair!r} already; rename one")
    _watched[key] = watched


def watched_of(pair: str) -> tuple[Watched, ...]:
    """What is watched of a pair."""
    return tuple(watched for (name, _), watched in _watched.items() if name == pair)

"""Which pairs there are: those that installed packages offer as entry points, and those registered by hand."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from parity.compare.verdict import Misuse
from parity.pairs.recipe import Pair

GROUP = "parity.pairs"

_by_hand: dict[str, Pair] = {}


def register(pair: Pair, *, source: str = "") -> Pair:
    """Add a pair for this process, as a conftest does for a pair that no installed package offers.

    Args:
        pair: the pair; registering it twice changes nothing.
        source: what ``--import`` was given to have it; it takes the place of the pair's own.

    Raises:
        Misuse: another pair has that name already.
    """
    if source:
        pair = dataclasses.replace(pair, source=source)
    if _by_hand.get(pair.name, pair) != pair:
        raise Misuse(f"a pair named {pair.name!r} is registered already; give one of the two another name")
    _by_hand[pair.name] = pair
    return pair


def registered_by_hand() -> dict[str, Pair]:
    """The pairs that ``register`` was given in this process, by name."""
    return dict(_by_hand)


def registered_pairs() -> dict[str, Pair]:
    """Every pair by name: entry points of group ``parity.pairs`` in order of their names, then those added by hand.

    Raises:
        Misuse: an entry point does not load or gives no pair, or two pairs share a name; the message names it.
    """
    points = tuple(sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)))
    sources: dict[str, str] = {}
    pairs: dict[str, Pair] = {}
    offered = [(_load(point), f"entry point {point.name!r} ({point.value})") for point in points]
    for pair, source in [*offered, *((pair, "register()") for pair in _by_hand.values())]:
        if pairs.get(pair.name, pair) != pair:
            raise Misuse(
                f"two pairs are named {pair.name!r}: from {sources[pair.name]} and from {source}; rename one, or "
                "uninstall the package that offers it"
            )
        pairs.setdefault(pair.name, pair)
        sources.setdefault(pair.name, source)
    return pairs


def module_of(pair: Pair) -> str:
    """The module that an entry point names for a pair; empty for one that was registered by hand, or not at all."""
    points = (point for point in entry_points(group=GROUP) if _load(point) is pair)
    return next((point.value.partition(":")[0] for point in points), "")


def shipped_pairs() -> list[Pair]:
    """The pairs that this package itself offers, which its manifest speaks of.

    Raises:
        Misuse: one of them does not load.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return [_load(point) for point in points if point.dist is not None and point.dist.name == "parity"]


def select_pairs(pattern: str) -> list[Pair]:
    """The registered pairs whose names match a glob.

    Raises:
        Misuse: none does; the message names the nearest.
    """
    pairs = registered_pairs()
    return [pairs[name] for name in select_names(pattern, pairs, "pair")]


def select_names(pattern: str, names: Iterable[str], what: str) -> list[str]:
    """Names that match a glob, in their order.

    Args:
        pattern: the glob.
        names: what there is.
        what: what they are names of, for the message.

    Raises:
        Misuse: none matches; the message names the nearest, or all when nothing is near.
    """
    names = list(names)
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if matching:
        return matching
    if not names:
        raise Misuse(f"no {what} matches {pattern!r}: there is none at all; is a package that offers one installed?")
    near = difflib.get_close_matches(pattern, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    raise Misuse(f"no {what} matches {pattern!r}; {hint}")


@cache
def _load(point: EntryPoint) -> Pair:
    """Load an entry point once; what it gives is shared, so that registering twice is seen as the same pair."""
    place = f"entry point {point.name!r} = {point.value!r} of group {GROUP!r}"
    try:
        loaded = point.load()
        pair = loaded if isinstance(loaded, Pair) else loaded()
    except (Exception, SystemExit) as error:  # whatever a foreign package raises, the user needs to know whose it is
        raise Misuse(
            f"{place} failed with {type(error).__name__}: {error}; repair or uninstall the package that offers it"
        ) from error
    if not isinstance(pair, Pair):
        raise Misuse(
            f"{place} gives {type(pair).__name__}; it must be a Pair, or a function without arguments giving one"
        )
    return dataclasses.replace(pair, source="") if pair.source else pair  # it is there without an import

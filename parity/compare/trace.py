"""A trace: everything one run of one side let us observe, in order, each entry with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

#: How an entry is judged: "value" by the ladder; "exact" bit for bit on every rung; "sampled" like "value" in float64
#: and not at all in narrower types, where a draw beside a tie may flip; "ensemble" by how far equal trainings drift.
JUDGED = ("value", "exact", "sampled", "ensemble")


Scale = float | Callable[[], float | None] | None
"""A number, or how to get it: most scales are never asked for."""


@dataclass(frozen=True)
class Place:
    """Where an entry was observed. Equal places of two traces are compared with each other."""

    phase: str
    component: str
    key: str
    step: int | None = None
    call: int = 0
    update: int | None = None
    minibatch: int | None = None


@dataclass(frozen=True)
class Entry:
    """One observation: a tensor, or a plain fact (``value`` of any type with ``==``)."""

    value: Any
    judged: str = "value"
    scale: Scale = None  # largest |input| of the operation, where known; bounds its rounding
    absolute: float | None = None  # judged against this bound instead (null gradients)
    from_probe: bool = False
    independent: int | None = None  # numbers it was computed from, where these may be fewer than its elements


class GradientSource(Protocol):
    """What a program asks for the gradients that probes saw; absent when a run is not probed."""

    def record_gradients(self, component: str) -> None:
        """Record the gradients at the outputs of one component into the trace, last call first."""
        ...


class Trace:
    """An ordered mapping from place to entry, filled by a program and by probes.

    ``phase``, ``step``, ``update`` and ``minibatch`` are the cursor: a program moves them, probes read them.
    ``judged`` is how entries are judged that do not say so themselves; while ``muted`` nothing is kept. ``independent``
    is the least number of numbers that what follows is computed from: a gradient behind 20 logits holds 20 rounding
    errors, however many elements it has, and the float32 rung must not take it for more. ``sequence`` is how many rows
    and steps ``(B, T)`` a run's tensors may hold, for those who draw a difference.
    """

    def __init__(self) -> None:
        self.entries: dict[Place, Entry] = {}
        self.phase = "forward"
        self.step: int | None = None
        self.update: int | None = None
        self.minibatch: int | None = None
        self.independent: int | None = None
        self.judged = "value"
        self.sequence: tuple[int, int] | None = None
        self.muted = False
        self.probes: GradientSource | None = None

    def record(
        self,
        key: str,
        value: Tensor,
        *,
        component: str = "",
        judged: str | None = None,
        scale: Scale = None,
        absolute: float | None = None,
        from_probe: bool = False,
        independent: int | None = None,
        clone: bool = True,
    ) -> None:
        """Keep a detached copy of ``value`` at the cursor; a place used again becomes its next call."""
        if self.muted:
            return
        kept = value.detach()
        least = min((n for n in (independent, self.independent) if n is not None), default=None)
        entry = Entry(kept.clone() if clone else kept, judged or self.judged, scale, absolute, from_probe, least)
        self.entries[self._free_place(component or key, key)] = entry

    def fact(self, key: str, value: Any, *, component: str = "") -> None:
        """Keep a plain value (names, shapes, flags), compared with ``==``."""
        if self.muted:
            return
        self.entries[self._free_place(component or key, key)] = Entry(value, "exact")

    def _free_place(self, component: str, key: str) -> Place:
        call = 0
        while (
            place := Place(self.phase, component, key, self.step, call, self.update, self.minibatch)
        ) in self.entries:
            call += 1
        return place

    def __iter__(self) -> Iterator[tuple[Place, Entry]]:
        return iter(self.entries.items())

    def without_probes(self) -> Trace:
        """The same trace less the entries that probes added."""
        rest = Trace()
        rest.entries = {place: entry for place, entry in self if not entry.from_probe}
        return rest


def comparable_probes(first: Trace, second: Trace) -> tuple[Trace, Trace]:
    """Both traces without the probes of components that return other numbers, shapes or dtypes of tensors.

    Components that were found by their parameters alone may return theirs in a layout of their own.
    """

    def layouts(trace: Trace) -> dict[str, list[tuple[Place, Any, Any]]]:
        found: dict[str, list[tuple[Place, Any, Any]]] = {}
        for place, entry in trace:
            if entry.from_probe:
                found.setdefault(place.component, []).append((place, entry.value.shape, entry.value.dtype))
        return found

    mine, theirs = layouts(first), layouts(second)
    alike = {component for component, layout in mine.items() if theirs.get(component) == layout}

    def rest(trace: Trace) -> Trace:
        kept = Trace()
        kept.entries = {place: e for place, e in trace if not e.from_probe or place.component in alike}
        return kept

    return rest(first), rest(second)

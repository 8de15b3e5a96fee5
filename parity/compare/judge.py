"""The verdict ladder for two traces: structure first, then bits, then a bound derived from the reference's rounding.

A later rung is climbed only for the leaves that an earlier one left open, and a rerun is made only while some leaf is
near or outside the bound so far: more reruns can only widen it, so stopping early never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parity.compare.bounds import BOUNDS, Bounds, rms, same_bits, ulp_distance
from parity.compare.diagnosis import likely_cause
from parity.compare.picture import pictures, trajectory
from parity.compare.reruns import Rerun, base_of, finite, is_native, moved_by
from parity.compare.trace import Entry, Place, Trace
from parity.compare.verdict import RUNG_ORDER, Divergence, Inconclusive, Rung

#: A leaf within this share of the bound so far is settled; above it, reruns sharpen the margin that is reported.
SETTLED = 0.5
#: Equal trainings that a divergent one is drawn beside, where its verdict needed none.
DRAWN_RERUNS = 2


@dataclass
class Outcome:
    """What comparing came to so far: the highest rung needed, the worst margin, the first divergence if any.

    ``trajectory`` is how far a training went apart update by update (see ``compare.picture``), of the example nearest
    to its bound; ``reruns`` says how many equal trainings the noise in it was measured on.
    """

    rung: Rung = Rung.BITS
    margin: float = 0.0
    divergence: Divergence | None = None
    margin_place: str = ""
    null_gradients: set[str] = field(default_factory=set)
    trajectory: dict[str, Any] | None = None

    def absorb(self, other: Outcome) -> None:
        """Fold another comparison of the same cell into this one."""
        if RUNG_ORDER.index(other.rung) > RUNG_ORDER.index(self.rung):
            self.rung = other.rung
        if other.trajectory and (other.margin > self.margin or not self.trajectory):
            self.trajectory = other.trajectory
        if other.margin > self.margin:
            self.margin, self.margin_place = other.margin, other.margin_place
        self.divergence = self.divergence or other.divergence
        self.null_gradients |= other.null_gradients


def judge(
    reference: Trace,
    candidate: Trace,
    *,
    rerun: Rerun | None = None,
    rerun_candidate: Rerun | None = None,
    wide: Callable[[], Trace] | None = None,
    bounds: Bounds = BOUNDS,
) -> Outcome:
    """Compare two traces entry by entry, in the reference's order.

    Args:
        reference: what is expected.
        candidate: what is judged.
        rerun: needed unless all bits agree.
        rerun_candidate: for contract checks, where the expectation may be exact and the rounding is the subject's own:
            its ulp-moved reruns widen the floor by their distance to its own trace, so a deviation stays a deviation.
        wide: the reference's float64 trace on the same weights; needed for float32 leaves unless all bits agree.
        bounds: the table of constants.

    Raises:
        Inconclusive: the reference itself is NaN somewhere.
    """
    candidate = _without_unmatched_probes(reference, candidate)
    reference = _without_unmatched_probes(candidate, reference)
    broken = _first_structural(reference, candidate)
    outcome = Outcome()
    open_places: list[Place] = []
    for place, entry in reference:
        if broken is not None and place == broken[0]:
            break
        if entry.absolute is not None:
            outcome.null_gradients.add(place.key)
        if isinstance(entry.value, Tensor):
            if same_bits(entry.value, candidate.entries[place].value):
                continue
            if entry.judged == "sampled" and is_native(reference):
                continue
            open_places.append(place)
    if open_places:
        measure = _Measure(open_places, reference, candidate, (rerun, rerun_candidate), wide, bounds)
        climbed = _climb(open_places, measure)
        outcome.absorb(climbed)
    if outcome.divergence is None and broken is not None:
        outcome.divergence = broken[1]
    return outcome


def _without_unmatched_probes(other: Trace, trace: Trace) -> Trace:
    """Drop probe entries of a component that the other side calls another number of times.

    A side may call a component once per sequence or once per step; what it returns to the caller is still compared.
    """

    def calls(of: Trace) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        for place, entry in of:
            if entry.from_probe:
                counts[place.phase, place.component] = counts.get((place.phase, place.component), 0) + 1
        return counts

    mine, theirs = calls(trace), calls(other)
    unmatched = {key for key in mine if mine[key] != theirs.get(key)}
    if not unmatched:
        return trace
    rest = Trace()
    rest.sequence = trace.sequence
    rest.entries = {
        place: entry for place, entry in trace if not (entry.from_probe and (place.phase, place.component) in unmatched)
    }
    return rest


def _first_structural(reference: Trace, candidate: Trace) -> tuple[Place, Divergence] | None:
    """Find the first place whose presence, kind, shape, dtype, device or fact differs."""
    for place, entry in reference:
        other = candidate.entries.get(place)
        if other is None:
            return place, _structural(place, "present", "missing", "recorded on the reference only")
        if not isinstance(entry.value, Tensor) or not isinstance(other.value, Tensor):
            if isinstance(entry.value, Tensor) or isinstance(other.value, Tensor) or entry.value != other.value:
                return place, _structural(place, entry.value, other.value, "", kind="fact")
            continue
        for name in ("shape", "dtype", "device"):
            mine, theirs = getattr(entry.value, name), getattr(other.value, name)
            if mine != theirs:
                mine, theirs = (tuple(mine), tuple(theirs)) if name == "shape" else (str(mine), str(theirs))
                return place, _structural(place, mine, theirs, f"the {name} differs")
        bad = _non_finite_mismatch(entry.value, other.value)
        if bad is not None:
            return place, _pointwise(
                place, entry, other, bad, kind="non_finite", rung=Rung.BITS, sequence=reference.sequence
            )
    extra = next((place for place in candidate.entries if place not in reference.entries), None)
    if extra is None:
        return None
    return extra, _structural(extra, "absent", "present", "recorded on the candidate only")


def _structural(place: Place, reference: object, candidate: object, note: str, kind: str = "structure") -> Divergence:
    return Divergence(
        kind=kind,
        phase=place.phase,
        component=place.component,
        key=place.key,
        step=place.step,
        update=place.update,
        minibatch=place.minibatch,
        reference=reference,
        candidate=candidate,
        rung=Rung.BITS,
        notes=(note,) if note else (),
    )


def _non_finite_mismatch(reference: Tensor, candidate: Tensor) -> tuple[int, ...] | None:
    """Index of the first place that is not finite on one side and differs; None when there is none."""
    if not reference.is_floating_point() or torch.equal(reference, candidate):  # a NaN equals nothing
        return None
    if bool(torch.isnan(reference).any()):
        raise Inconclusive(
            f"the reference is NaN in {int(torch.isnan(reference).sum())} of {reference.numel()} elements, so nothing "
            "can be judged against it; check the weights and the input it was given"
        )
    odd = ~torch.isfinite(candidate) | ~torch.isfinite(reference)
    wrong = odd & (reference != candidate)
    if not bool(wrong.any()):
        return None
    return tuple(int(axis) for axis in wrong.nonzero()[0])


def _climb(places: list[Place], measure: _Measure) -> Outcome:
    """Judge the leaves that bits left open; ``places`` is in the reference's order."""
    measure.settle()
    outcome = Outcome(trajectory=measure.trajectory())
    for place in places:
        measured, allowed, rung = measure.measured[place], measure.allowed(place), measure.rung(place)
        outcome.absorb(Outcome(rung=rung))
        if measured > allowed:
            outcome.trajectory = measure.trajectory(DRAWN_RERUNS)
            outcome.divergence = _pointwise(
                place,
                measure.reference.entries[place],
                measure.candidate.entries[place],
                None,
                rung=rung,
                measured=measured,
                allowed=allowed,
                sequence=measure.reference.sequence,
            )
            return outcome
        margin = measured / allowed if allowed > 0 else 0.0
        if margin > outcome.margin:
            outcome.margin, outcome.margin_place = margin, f"{place.component}/{place.key}"
    return outcome


class _Measure:
    """Distances of the open leaves and their bounds, widened rerun by rerun until settled."""

    def __init__(
        self,
        places: list[Place],
        reference: Trace,
        candidate: Trace,
        reruns: tuple[Rerun | None, Rerun | None],
        wide: Callable[[], Trace] | None,
        bounds: Bounds,
    ) -> None:
        self.places, self.reference, self.candidate = places, reference, candidate
        self.reruns, self.bounds = reruns, bounds
        self.native = is_native(reference)
        self.made = 0
        self.wide: Trace | None = None
        if any(self.rung(place) is Rung.NOISE_FLOOR for place in places):
            if wide is None:
                raise Inconclusive(
                    "float32 leaves differ and no float64 reference was given to measure rounding against"
                )
            self.wide = wide()
        self.measured = {place: self._distance(candidate.entries[place], place) for place in places}
        self.floor = {place: self._first_floor(place) for place in places}

    def rung(self, place: Place) -> Rung:
        """The rung that decides a leaf."""
        if self.reference.entries[place].judged == "ensemble":
            return Rung.ENSEMBLE
        return Rung.NOISE_FLOOR if self.native else Rung.FLOAT64

    def _distance(self, entry: Entry, place: Place) -> float:
        base = base_of(place, self.reference, self.wide).entries.get(place)
        if base is None or base.value.shape != entry.value.shape:
            raise Inconclusive(f"{place.component}/{place.key}: the float64 reference recorded no such leaf")
        return rms(finite(entry.value, base.value))

    def _first_floor(self, place: Place) -> float:
        entry = self.reference.entries[place]
        if not entry.value.is_floating_point():
            return 0.0
        eps = torch.finfo(entry.value.dtype).eps
        scale = entry.scale() if callable(entry.scale) else entry.scale
        if self.rung(place) is not Rung.NOISE_FLOOR:
            size = rms(torch.nan_to_num(entry.value, posinf=0.0, neginf=0.0))
            # a scalar moves in quanta of its inputs' rounding, which a handful of reruns may never show
            return eps * (max(size, scale or 0.0) if self.rung(place) is Rung.ENSEMBLE else size)
        own = self._distance(entry, place)
        return max(own, eps * (float(entry.value.abs().max()) if scale is None else scale))

    def allowed(self, place: Place) -> float:
        """Bound of one leaf on the reruns made so far."""
        entry, rung = self.reference.entries[place], self.rung(place)
        if entry.absolute is not None:
            return entry.absolute
        if entry.judged == "exact" or not entry.value.is_floating_point():
            return 0.0
        if rung is Rung.NOISE_FLOOR:
            elements = entry.value.numel()
            independent = elements if entry.independent is None else min(elements, entry.independent)
            return self.bounds.noise_limit(independent) * self.floor[place]
        if rung is Rung.ENSEMBLE:
            return self.bounds.ensemble_factor * self.floor[place]
        return min(self.bounds.float64_factor * self.floor[place], self._cap(entry))

    def _most(self, place: Place) -> float:
        """What the bound of a leaf can never exceed."""
        entry = self.reference.entries[place]
        if entry.absolute is not None or entry.judged == "exact" or not entry.value.is_floating_point():
            return self.allowed(place)
        return self._cap(entry) if self.rung(place) is Rung.FLOAT64 else float("inf")

    def _cap(self, entry: Entry) -> float:
        return self.bounds.float64_cap * rms(torch.nan_to_num(entry.value, posinf=0.0, neginf=0.0))

    def settle(self) -> None:
        """Rerun the reference, ulp-moved, while some leaf is near or outside its bound and reruns are left."""
        noisy = all(self.rung(place) is Rung.NOISE_FLOOR for place in self.places)
        # behind a leaf that no rerun can save, nothing decides any more
        hopeless = (n for n, place in enumerate(self.places) if self.measured[place] > self._most(place))
        deciding = self.places[: next(hopeless, None)]
        for number in range(self.bounds.noise_reruns if noisy else self.bounds.float64_reruns):
            if all(self.measured[place] <= SETTLED * self.allowed(place) for place in deciding):
                return
            self._rerun(number)

    def trajectory(self, least: int = 0) -> dict[str, Any] | None:
        """How far a training went apart update by update, beside so many reruns at least; None of what is no training.

        Reruns that are made to be drawn come after the verdict, and do not change it.
        """
        if len({place.update for place in self.places}) < 2:
            return None
        for number in range(self.made, least):
            self._rerun(number)
        points = trajectory((p, self.measured[p], self.floor[p], self.allowed(p)) for p in self.places)
        return {"reruns": self.made, "points": points} if points else None

    def _rerun(self, number: int) -> None:
        self.made = number + 1
        for on_candidate, rerun in enumerate(self.reruns):
            moved = rerun(number) if rerun is not None else {}
            for place in self.places:
                own = self.candidate if on_candidate else base_of(place, self.reference, self.wide)
                distance = moved_by(moved, place, own)
                if distance is not None:
                    # eps x rms of the leaf comes on top of the float64 floor, inside it on the native one
                    extra = 0.0 if self.rung(place) is Rung.NOISE_FLOOR else self._first_floor(place)
                    self.floor[place] = max(self.floor[place], distance + extra)


def _pointwise(
    place: Place,
    reference: Entry,
    candidate: Entry,
    index: tuple[int, ...] | None,
    *,
    kind: str = "value",
    rung: Rung = Rung.FLOAT64,
    measured: float | None = None,
    allowed: float | None = None,
    sequence: tuple[int, int] | None = None,
) -> Divergence:
    """Describe a leaf that differs by its worst element."""
    mine, theirs = reference.value, candidate.value
    difference = finite(theirs, mine).abs()
    if index is None:
        worst = int(difference.argmax()) if difference.numel() else 0
        index = tuple(int(axis) for axis in torch.unravel_index(torch.tensor(worst), mine.shape))
    first, second = mine[index].item(), theirs[index].item()
    floating = mine.is_floating_point()
    absolute = abs(float(second) - float(first))
    return Divergence(
        kind=kind,
        phase=place.phase,
        component=place.component,
        key=place.key,
        step=place.step,
        update=place.update,
        minibatch=place.minibatch,
        row=index[0] if index else None,
        shape=tuple(mine.shape),
        index=index,
        reference=first,
        candidate=second,
        differing=int((difference > (allowed or 0.0)).sum()) if floating else int((mine != theirs).sum()),
        elements=mine.numel(),
        absolute=absolute,
        relative=absolute / abs(float(first)) if first else None,
        ulp=ulp_distance(float(first), float(second), mine.dtype) if floating else None,
        measured=measured,
        allowed=allowed,
        rung=rung,
        cause=likely_cause(mine, theirs, place),
        # a parameter has no rows and steps, and within a step there is one step alone
        pictures=pictures(
            difference,
            sequence if place.step is None and (reference.from_probe or place.component == place.key) else None,
        ),
    )

"""Inferring the parameter map of two sides, and saying how sure each link is.

Three kinds of evidence, strongest first. *Initial values*: built from one seed, a parameter holds the same numbers on
both sides, perhaps as a slice of a fused one, or with its axes in another order. *Shape*: what is left fits one partner
only. *Fingerprint*: among several of one shape all get equal values, so that both sides compute the same whoever
belongs to whom; then one at a time is moved, and its partner is the one that moves the outputs likewise.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.pairs.parameters import ParameterLink, Region, slices

Values = Mapping[str, Tensor]
Respond = Callable[[str, Values], Tensor]
"""Runs one side (``reference``, ``candidate``) on given weights and returns its outputs, flat, in float64."""

SIDES = ("reference", "candidate")

_VALUES = "initial values equal"

#: Fingerprints agree within this share of their size: the rounding of a forward pass in float64 is far below.
AGREE = 1e-7
#: An effect below this share of the outputs is none, but rounding.
NOTHING = 1e-12
#: A closest fingerprint is taken when the next is this many times as far.
CLEAR = 4.0


@dataclass(frozen=True)
class Piece:
    """A parameter, or the region of one that is fused from several."""

    name: str
    region: Region
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """One link and why."""

    link: ParameterLink
    why: str
    sure: bool = True


@dataclass
class Inferred:
    """What could be inferred: ``links`` in the reference's order, and what is left over on each side."""

    links: list[Found]
    left: dict[str, list[str]]

    @property
    def complete(self) -> bool:
        """Every parameter has its partner, and none is a guess."""
        return all(found.sure for found in self.links) and not any(self.left.values())


def infer(reference: Values, candidate: Values, respond: Respond, *, by_values: bool = True) -> Inferred:
    """Infer which parameter is which.

    Args:
        reference: freshly built weights by name.
        candidate: the other side's, built from the same seed.
        respond: runs a side on other weights.
        by_values: whether equal initial values count. Sides that draw from one stream in another order, or more at a
            time, hold equal numbers by chance.
    """
    found = _by_initial_values(reference, candidate) if by_values else []
    pieces = {
        "reference": _left_over(reference, [(item.link.reference, item.link.reference_region) for item in found]),
        "candidate": _left_over(candidate, [(item.link.candidate, item.link.candidate_region) for item in found]),
    }
    pieces = _split_fused(pieces)
    classes = _classes(pieces)
    found += _by_shape_and_fingerprint(classes, found, (reference, candidate), respond)
    taken = {
        "reference": {(item.link.reference, item.link.reference_region) for item in found},
        "candidate": {(item.link.candidate, item.link.candidate_region) for item in found},
    }
    left = {side: [p.name for p in pieces[side] if (p.name, p.region) not in taken[side]] for side in SIDES}
    order = {name: number for number, name in enumerate(reference)}
    found.sort(key=lambda item: (order[item.link.reference], item.link.reference_region))
    return Inferred(found, {side: list(dict.fromkeys(names)) for side, names in left.items()})


def doubted(inferred: Inferred) -> Inferred:
    """The same where sides that are given other weights through it differ: equal initial values may then be chance."""
    chance = "; perhaps by chance, for the sides differ on other weights"
    links = [
        Found(item.link, item.why + chance, sure=False) if item.why.startswith(_VALUES) else item
        for item in inferred.links
    ]
    return Inferred(links, inferred.left)


def _by_initial_values(reference: Values, candidate: Values) -> list[Found]:
    """Links between parameters, or slices of them, that hold the same varying numbers."""
    found: list[Found] = []
    for name, value in reference.items():
        whole = [(other, fit) for other, weight in candidate.items() for fit in _fits(value, weight)]
        if len(whole) == 1:
            other, (permute, region) = whole[0]
            why = _VALUES + (", a slice" if region else "") + (", axes permuted" if permute else "")
            found.append(Found(ParameterLink(name, other, candidate_region=region, permute=permute), why))
    done = {item.link.candidate for item in found}
    for other, weight in candidate.items():  # and the other way round: the reference may be the one that fuses
        slices = [
            (name, permute, region)
            for name, value in reference.items()
            for permute, region in (_fits(weight, value) if other not in done else ())
            if region
        ]
        if len(slices) == 1:
            name, permute, region = slices[0]
            back = None if permute is None else tuple(sorted(range(len(permute)), key=permute.__getitem__))
            why = _VALUES + ", a slice" + (", axes permuted" if permute else "")
            found.append(Found(ParameterLink(name, other, reference_region=region, permute=back), why))
    return found


def _fits(value: Tensor, weight: Tensor) -> Iterator[tuple[tuple[int, ...] | None, Region]]:
    """The permutations of ``value`` and the regions of ``weight`` that are equal; constants fit nothing."""
    if value.dim() != weight.dim() or not bool((value != value.flatten()[0]).any()):
        return
    for permute in itertools.permutations(range(value.dim())):
        moved = value.permute(permute)
        identity = None if permute == tuple(range(value.dim())) else permute
        if moved.shape == weight.shape:
            if torch.equal(moved, weight):
                yield identity, ()
            continue
        for axis, start in _offsets(moved, weight):
            region = (*((0, None) for _ in range(axis)), (start, start + moved.shape[axis]))
            yield identity, region


def _offsets(part: Tensor, whole: Tensor) -> Iterator[tuple[int, int]]:
    """(axis, offset) at which ``part`` stands in ``whole`` as a slice along one axis."""
    differing = [axis for axis in range(whole.dim()) if part.shape[axis] != whole.shape[axis]]
    if len(differing) != 1 or part.shape[differing[0]] > whole.shape[differing[0]]:
        return
    axis = differing[0]
    first = part.select(axis, 0)
    for start in range(whole.shape[axis] - part.shape[axis] + 1):
        begins = torch.equal(whole.select(axis, start), first)  # cheap, and nearly always the end of it
        if begins and torch.equal(whole.narrow(axis, start, part.shape[axis]), part):
            yield axis, start


def _left_over(values: Values, taken: Iterable[tuple[str, Region]]) -> list[Piece]:
    """What no link covers yet; of a parameter that is covered in part, the gaps along its sliced axis."""
    regions: dict[str, list[Region]] = {}
    for name, region in taken:
        regions.setdefault(name, []).append(region)
    left = []
    for name, value in values.items():
        own = regions.get(name)
        if own is None:
            left.append(Piece(name, (), tuple(value.shape)))
        elif all(own):
            axis = len(own[0]) - 1
            ends = [0, *(bound for region in sorted(own) for bound in region[-1]), value.shape[axis]]
            for start, stop in zip(ends[::2], ends[1::2], strict=True):
                if start is not None and stop is not None and start < stop:
                    left.append(_part(name, tuple(value.shape), axis, start, stop))
    return left


def _part(name: str, shape: tuple[int, ...], axis: int, start: int, stop: int) -> Piece:
    region: Region = (*((0, None) for _ in range(axis)), (start, stop))
    return Piece(name, region, (*shape[:axis], stop - start, *shape[axis + 1 :]))


def _split_fused(pieces: dict[str, list[Piece]]) -> dict[str, list[Piece]]:
    """Split what is a whole number of times as long along one axis as surplus pieces of the other side."""
    pieces = {side: list(found) for side, found in pieces.items()}
    for side, other in (SIDES, SIDES[::-1]):
        for piece in list(pieces[side]):
            surplus = _shapes(pieces[other]) - _shapes(pieces[side])
            if (_shapes(pieces[side]) - _shapes(pieces[other]))[piece.shape] <= 0 or piece.region:
                continue
            fitting = [
                (axis, shape[axis])
                for shape, count in surplus.items()
                for axis in range(len(shape))
                if len(shape) == len(piece.shape)
                and all(a == b for n, (a, b) in enumerate(zip(shape, piece.shape, strict=True)) if n != axis)
                and 1 < piece.shape[axis] / shape[axis] <= count
                and piece.shape[axis] % shape[axis] == 0
            ]
            if fitting:
                axis, size = fitting[0]
                at = pieces[side].index(piece)
                starts = range(0, piece.shape[axis], size)
                pieces[side][at : at + 1] = [_part(piece.name, piece.shape, axis, n, n + size) for n in starts]
    return pieces


def _shapes(pieces: Iterable[Piece]) -> Counter[tuple[int, ...]]:
    return Counter(piece.shape for piece in pieces)


Class = tuple[list[Piece], list[Piece]]
"""Pieces of both sides that may belong together: as many of each, of one shape but for the order of axes."""


def _classes(pieces: Mapping[str, list[Piece]]) -> list[Class]:
    exact = _shapes(pieces["reference"])
    other = _shapes(pieces["candidate"])

    def key(piece: Piece) -> tuple[object, ...]:
        if exact[piece.shape] == other[piece.shape]:
            return ("as it is", *piece.shape)
        return ("in any order", *sorted(piece.shape))

    groups: dict[tuple[object, ...], Class] = {}
    for number, side in enumerate(SIDES):
        for piece in pieces[side]:
            groups.setdefault(key(piece), ([], []))[number].append(piece)
    return list(groups.values())


def _by_shape_and_fingerprint(
    classes: list[Class], known: list[Found], values: tuple[Values, Values], respond: Respond
) -> list[Found]:
    fair = [group for group in classes if len(group[0]) == len(group[1])]
    single = [group for group in fair if len(group[0]) == 1 and len(_permutations(group[0][0], group[1][0])) == 1]
    found = [
        Found(_link(mine[0], theirs[0], _permutations(mine[0], theirs[0])[0]), "shape is unique")
        for mine, theirs in single
    ]
    rest = [group for group in fair if group not in single]
    if rest:
        prints = _Fingerprints(rest, [*known, *found], values, respond)
        for group in rest:
            found += prints.match(group)
    return found


def _permutations(mine: Piece, theirs: Piece) -> list[tuple[int, ...]]:
    """Orders of axes that bring one shape to the other, the plain one first."""
    ones = [axis for axis, length in enumerate(mine.shape) if length == 1]  # their order among each other is no matter
    return [
        order
        for order in itertools.permutations(range(len(mine.shape)))
        if tuple(mine.shape[axis] for axis in order) == theirs.shape and [a for a in order if a in ones] == ones
    ]


def _link(mine: Piece, theirs: Piece, permute: tuple[int, ...]) -> ParameterLink:
    plain = permute == tuple(range(len(permute)))
    return ParameterLink(mine.name, theirs.name, mine.region, theirs.region, None if plain else permute)


_Moved = tuple[Piece, tuple[int, ...], Tensor]
"""A piece of the candidate, an order of axes, and the effect of moving the piece so."""


class _Fingerprints:
    """What each piece does to the outputs while all pieces of a class hold the same numbers."""

    def __init__(
        self, classes: list[Class], known: list[Found], values: tuple[Values, Values], respond: Respond
    ) -> None:
        self._respond = respond
        mine, theirs = ({name: torch.zeros_like(v, dtype=torch.float64) for name, v in side.items()} for side in values)
        for number, link in enumerate(found.link for found in known):
            region = mine[link.reference][slices(link.reference_region)]
            drawn = _draw(tuple(region.shape), number)
            region.copy_(drawn)
            theirs[link.candidate][slices(link.candidate_region)] = (
                drawn.permute(link.permute) if link.permute else drawn
            )
        for number, group in enumerate(classes):
            shared = _symmetric(_draw(group[0][0].shape, len(known) + number))
            for weights, pieces in zip((mine, theirs), group, strict=True):
                for piece in pieces:
                    weights[piece.name][slices(piece.region)] = shared.permute(_permutations(group[0][0], piece)[0])
        self._base = (mine, theirs)
        self._still = tuple(respond(side, weights) for side, weights in zip(SIDES, self._base, strict=True))

    def match(self, group: Class) -> list[Found]:
        """Link the pieces of one class, each to the one whose move does the same to the outputs."""
        first = group[0][0]
        move = _draw(first.shape, -1)
        moved = [
            (piece, order, self._effect(1, piece, move.permute(order)))
            for piece in group[1]
            for order in _permutations(first, piece)
        ]
        effects = {piece: self._effect(0, piece, move.permute(_permutations(first, piece)[0])) for piece in group[0]}
        found: dict[Piece, Found] = {}
        for _ in range(2):  # what was unclear at first may be the only one left
            for piece in [piece for piece in group[0] if piece not in found or not found[piece].sure]:
                others = [item.link for other, item in found.items() if other != piece and item.sure]
                taken = {(link.candidate, link.candidate_region) for link in others}
                own = _permutations(first, piece)[0]
                found[piece] = self._choose(piece, own, effects[piece], moved, taken)
        return list(found.values())

    def _effect(self, side: int, piece: Piece, move: Tensor) -> Tensor:
        """Change of the outputs when one piece moves."""
        weights = dict(self._base[side])
        weights[piece.name] = weights[piece.name].clone()
        weights[piece.name][slices(piece.region)] += move
        return self._respond(SIDES[side], weights) - self._still[side]

    def _choose(
        self,
        piece: Piece,
        own: tuple[int, ...],
        effect: Tensor,
        moved: Sequence[_Moved],
        taken: Collection[tuple[str, Region]],
    ) -> Found:
        """The partner of one piece among those that are not taken, and how sure it is."""
        rounding = NOTHING * float(self._still[0].norm())
        size = float(effect.norm())
        apart = {entry[:2]: float((entry[2] - effect).norm()) for entry in moved}
        free = [key for key in apart if (key[0].name, key[0].region) not in taken]

        def link(key: tuple[Piece, tuple[int, ...]]) -> ParameterLink:
            return _link(piece, key[0], tuple(own.index(axis) for axis in key[1]))

        if len({partner for partner, _ in free}) == 1 and size <= rounding:
            return Found(link(free[0]), "the only one left; it has no effect on the outputs")
        same = [key for key, distance in apart.items() if distance <= AGREE * size + rounding]
        partners = dict.fromkeys(partner for partner, _ in same)
        equal = [key for key in free if key in same]
        if (
            len(partners) == 1 and equal
        ):  # where a kernel is symmetric several orders do the same: the plain one is first
            return Found(link(equal[0]), "fingerprint")
        if equal:
            likeness = {key: _alike(piece.name, key[0].name) for key in equal}
            best = max(equal, key=likeness.__getitem__)
            what = "the same effect" if size > rounding else "no effect on the outputs"
            rivals = {key[0] for key in equal if likeness[key] == likeness[best]}
            if len(rivals) == 1:
                why = (
                    f"{what} as {len(partners) - 1} more, told apart by name"
                    if len(equal) > 1 or likeness[best]
                    else what
                )
                return Found(link(best), why, sure=bool(likeness[best]))
            shown = ", ".join(sorted(partner.name for partner in rivals))
            return Found(link(best), f"ambiguous between {shown}: {what}", sure=False)
        best = min(free, key=apart.__getitem__)
        others = [distance for key, distance in apart.items() if key in free and key[0] != best[0]]
        far = f"{apart[best] / max(size, rounding):.2g} of its size apart"
        if others and min(others) < CLEAR * apart[best]:
            near = dict.fromkeys(key[0].name for key in sorted(free, key=apart.__getitem__)[:3])
            return Found(link(best), f"ambiguous between {', '.join(near)}: no fingerprint agrees", sure=False)
        return Found(link(best), f"closest fingerprint, {far}", sure=False)


def _alike(first: str, second: str) -> int:
    """How many parts of two dotted names agree, from the end."""
    pairs = zip(reversed(first.split(".")), reversed(second.split(".")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _draw(shape: tuple[int, ...], number: int) -> Tensor:
    """Numbers under which activations neither vanish nor saturate, whatever the parameter is."""
    generator = torch.Generator().manual_seed(10_007 + number)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if len(shape) < 2:
        return 0.5 + 0.3 * noise
    return noise / math.sqrt(max(1, noise[0].numel(), noise.shape[0] if noise.dim() == 2 else 1))


def _symmetric(value: Tensor) -> Tensor:
    """The mean over all orders of axes that keep the shape, so that no order can be told by it."""
    orders = [
        order
        for order in itertools.permutations(range(value.dim()))
        if tuple(value.shape[axis] for axis in order) == tuple(value.shape)
    ]
    return torch.stack([value.permute(order) for order in orders]).mean(0) * math.sqrt(len(orders))

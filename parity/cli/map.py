"""``map``: both sides' parameters side by side, which is which, how sure that is, and the map to paste."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from parity.cli.record import the_pair
from parity.compare.verdict import Inconclusive, Misuse
from parity.conditions import judging
from parity.pairs.builds import Builds
from parity.pairs.inference import Inferred, doubted, infer
from parity.pairs.parameters import ParameterLink
from parity.pairs.responses import AGREE, BothSides

_DECLARED = "the declared map"


def show(arguments: argparse.Namespace) -> int:
    """Infer and show; 0 when every link is sure and a declared map says the same, 1 when it says another, else 2."""
    pair = the_pair(arguments.pair)
    with judging():
        builds = Builds(pair)
        sides = BothSides(pair, builds.build)
        inferred, checked = _infer(sides)
        print("\n".join(_table(inferred, sides)))
        print()
        print("\n".join(_paste(inferred)))
        print()
        print(checked)
        if pair.infer_rest:  # names count as well when such a pair is judged, so hold the two against each other
            try:
                used = builds.parameter_map(sides.module("reference"), sides.module("candidate"))
            except Inconclusive as error:
                print(f"the pair has no map to be judged by: {error}")
                return 2
            return _compare(used.links, inferred, sides, "the map that the pair is judged by")
        if pair.parameters is None:
            print(
                "the pair declares no map" + ("" if inferred.complete else "; complete what is missing, and declare it")
            )
            return 0 if inferred.complete else 2
        return _compare(pair.parameters, inferred, sides)


def _infer(sides: BothSides) -> tuple[Inferred, str]:
    """What can be inferred, and a line on whether the sides agree on other weights that are given through it."""
    inferred = infer(sides.values("reference"), sides.values("candidate"), sides.respond)
    said, agree = _checked(inferred, sides)
    if agree is False:
        other = infer(sides.values("reference"), sides.values("candidate"), sides.respond, by_values=False)
        told, they_agree = _checked(other, sides)
        if they_agree and other.complete:
            return other, told
        inferred = doubted(inferred)
    return inferred, said


def _table(inferred: Inferred, sides: BothSides) -> list[str]:
    rows = [("reference", "", "candidate", "", "how sure")]
    for found in inferred.links:
        link = found.link
        shapes = [
            str(list(sides.values(side)[name].shape))
            for side, name in (("reference", link.reference), ("candidate", link.candidate))
        ]
        rows.append(
            (
                _named(link.reference, link.reference_region),
                shapes[0],
                _named(link.candidate, link.candidate_region),
                shapes[1],
                found.why,
            )
        )
    for side, names in inferred.left.items():
        for name in names:
            shape, why = (
                str(list(sides.values(side)[name].shape)),
                f"unmapped: nothing left on the {_other(side)}",
            )
            rows.append((name, shape, "-", "", why) if side == "reference" else ("-", "", name, shape, why))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _other(side: str) -> str:
    return "candidate" if side == "reference" else "reference"


def _named(name: str, region: Iterable[tuple[int, int | None]]) -> str:
    parts = [f"{start or ''}:{stop if stop is not None else ''}" for start, stop in region]
    return f"{name}[{', '.join(parts)}]" if parts else name


def _paste(inferred: Inferred) -> list[str]:
    lines = ["parameters=("]
    for found in inferred.links:
        lines.append(f"    {_code(found.link)}," + ("" if found.sure else f"  # {found.why}"))
    return [*lines, ")"]


def _code(link: ParameterLink) -> str:
    parts = [f'"{link.reference}"', f'"{link.candidate}"']
    for key in ("reference_region", "candidate_region"):
        if getattr(link, key):
            parts.append(f"{key}={getattr(link, key)!r}")
    if link.permute:
        parts.append(f"permute={link.permute!r}")
    return f"parity.ParameterLink({', '.join(parts)})"


def _checked(inferred: Inferred, sides: BothSides) -> tuple[str, bool | None]:
    """Whether the sides, given other weights through the map, return the same; None when that cannot be seen."""
    try:
        links = sides.checked([found.link for found in inferred.links])
    except Inconclusive as error:
        return f"not checked, the map is not complete: {error}", None
    apart = sides.apart(links)
    if apart is None:
        return "checked: the sides return other numbers of values, so they do not compute the same", False
    agree = apart < AGREE
    told = "the sides agree" if agree else "the sides differ: a link is wrong, or they do not compute the same"
    return f"checked on other weights, given through the map: {told} (outputs {apart:.1e} of their size apart)", agree


def _compare(declared: Iterable[ParameterLink], inferred: Inferred, sides: BothSides, what: str = _DECLARED) -> int:
    declared = tuple(declared)
    shapes = {
        side: {name: tuple(v.shape) for name, v in sides.values(side).items()} for side in ("reference", "candidate")
    }
    try:
        sides.checked(declared)
    except Inconclusive as error:
        print(f"{what} is not complete: {error}")
        return 2
    mine = {_plain(link, shapes) for link in declared}
    theirs = {_plain(found.link, shapes): found for found in inferred.links}
    if mine == set(theirs):
        print(f"{what} says the same: {len(mine)} links")
        return 0 if inferred.complete else 2
    other = [link for link in theirs if link not in mine]
    print(f"{what} says otherwise in {len(other)} of {len(theirs)} links:")
    for link in other:
        said = [found for found in mine if found.reference == link.reference]
        print(f"  inferred {_code(link)}   {theirs[link].why}")
        for found in said:
            print(f"  {'judged by' if what != _DECLARED else 'declared'} {_code(found)}")
    return 1 if inferred.complete else 2


def _plain(link: ParameterLink, shapes: dict[str, dict[str, tuple[int, ...]]]) -> ParameterLink:
    """A link written one way: whole regions and plain orders left out."""

    def region(side: str, name: str, given: Iterable[tuple[int, int | None]]) -> tuple[tuple[int, int | None], ...]:
        if name not in shapes[side]:
            raise Misuse(f"the declared map links {side} parameter {name!r}, which does not exist there")
        full = shapes[side][name]
        found = [(start, full[n] if stop is None else stop) for n, (start, stop) in enumerate(given)]
        while found and found[-1] == (0, full[len(found) - 1]):
            found.pop()
        return tuple(found)

    plain = link.permute is None or link.permute == tuple(range(len(link.permute)))
    return ParameterLink(
        link.reference,
        link.candidate,
        region("reference", link.reference, link.reference_region),
        region("candidate", link.candidate, link.candidate_region),
        None if plain else link.permute,
    )

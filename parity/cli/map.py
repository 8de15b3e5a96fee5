"""``map``: both sides' parameters side by side, which is which, how sure that is, and the map to paste."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from parity.agents.interface import ACT_LOG_PROB, ENV_OBS
from parity.cli.record import the_pair
from parity.compare.verdict import Inconclusive, Misuse
from parity.conditions import judging
from parity.pairs.builds import Builds, Subject
from parity.pairs.inference import Inferred, Values, infer
from parity.pairs.parameters import ParameterLink, ParameterMap, declared_map
from parity.pairs.recipe import Pair

ROWS, STEPS = 6, 3
_DECLARED = "the declared map"


def show(arguments: argparse.Namespace) -> int:
    """Infer and show; 0 when every link is sure and a declared map says the same, 1 when it says another, else 2."""
    pair = the_pair(arguments.pair)
    with judging():
        sides = _Sides(pair)
        inferred = infer(sides.values("reference"), sides.values("candidate"), sides.respond)
        print("\n".join(_table(inferred, sides)))
        print()
        print("\n".join(_paste(inferred)))
        print()
        print(_checked(inferred, sides))
        if pair.infer_rest:  # names count as well when such a pair is judged, so hold the two against each other
            try:
                used = sides.judged_by()
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


class _Sides:
    """Both sides, built in float64, ready to be given other weights."""

    def __init__(self, pair: Pair) -> None:
        self._pair, self._builds = pair, Builds(pair)
        recipe = pair.recipe.with_system(dtype=torch.float64)
        self._subjects: dict[str, Subject] = {}
        for side in ("reference", "candidate"):
            self._subjects[side] = subject = self._builds.build(side, recipe)
            subject.keep()
        self._observations = [pair.generate(recipe.environment, rows=ROWS, seed=seed) for seed in range(STEPS)]

    def judged_by(self) -> ParameterMap:
        """The map that checks use.

        Raises:
            Inconclusive: there is none.
        """
        return self._builds.parameter_map(self.module("reference"), self.module("candidate"))

    def module(self, side: str) -> nn.Module:
        """One side as it was built."""
        return self._subjects[side].policy

    def values(self, side: str) -> dict[str, Tensor]:
        """One side's initial weights."""
        return {name: value.detach() for name, value in self._subjects[side].policy.named_parameters()}

    def respond(self, side: str, weights: Values) -> Tensor:
        """What a side returns over some steps on other weights, but for what depends on what it sampled."""
        subject = self._subjects[side].copy()
        parts = []
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name, parameter in subject.policy.named_parameters():
                parameter.copy_(weights[name])
            for observations in self._observations:
                td = TensorDict({ENV_OBS: observations.clone()}, batch_size=[ROWS])
                given = set(td.keys())
                out = subject.policy(td)
                parts += [
                    out[key].double().flatten()
                    for key in sorted(set(out.keys()) - given - {ACT_LOG_PROB})
                    if isinstance(out[key], Tensor) and out[key].is_floating_point()
                ]
        return torch.cat(parts)


def _table(inferred: Inferred, sides: _Sides) -> list[str]:
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
    return f"ParameterLink({', '.join(parts)})"


def _checked(inferred: Inferred, sides: _Sides) -> str:
    """Whether the sides, given other weights through the map, return the same."""
    try:
        links = declared_map(
            [found.link for found in inferred.links], sides.module("reference"), sides.module("candidate")
        )
    except Inconclusive as error:
        return f"not checked, the map is not complete: {error}"
    weights = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(n), dtype=value.dtype)
        / value[:1].numel() ** 0.5
        for n, (name, value) in enumerate(sides.values("reference").items())
    }
    mine = sides.respond("reference", weights)
    theirs = sides.respond("candidate", links.to_candidate(weights, sides.values("candidate")))
    if mine.shape != theirs.shape:
        return f"checked: the sides return {mine.numel()} and {theirs.numel()} numbers, so they do not compute the same"
    apart = float((mine - theirs).norm() / mine.norm().clamp_min(1e-300))
    told = "the sides agree" if apart < 1e-9 else "the sides differ: a link is wrong, or they do not compute the same"
    return f"checked on other weights, given through the map: {told} (outputs {apart:.1e} of their size apart)"


def _compare(declared: Iterable[ParameterLink], inferred: Inferred, sides: _Sides, what: str = _DECLARED) -> int:
    declared = tuple(declared)
    shapes = {
        side: {name: tuple(v.shape) for name, v in sides.values(side).items()} for side in ("reference", "candidate")
    }
    try:
        declared_map(declared, sides.module("reference"), sides.module("candidate"))
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

"""``pair``: a reference and a candidate, described by their builders and what they see and do."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn, optim

from parity.agents.interface import AgentConfig, EnvironmentDescription
from parity.api.building import SideBuilder
from parity.api.observations import Observations, described, draw_observations
from parity.api.side import Side
from parity.checks.registry import own_checks
from parity.compare.verdict import Misuse
from parity.pairs.capabilities import CAPABILITIES, USUAL
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import ComponentLink, Generator, Pair, Recipe

Parameters = Mapping[str, str] | Iterable[ParameterLink]

#: Seconds that judging one cell may take, unless told otherwise.
TIME_LIMIT = 600.0
#: Capability -> the functions of a side that it rests on.
_RESTS_ON = {"memory": "initial_state", "sequences": "sequence", "clipping": "clip"}
_LEARNING_RATE = 1e-3
#: A name as like to a capability's as this is taken for a slip; names of one's own need not be known.
_NEAR = 0.8


def pair(
    name: str,
    *,
    reference: Side | Callable[..., nn.Module],
    candidate: Side | Callable[..., nn.Module],
    observations: Observations | Mapping[str, Observations],
    actions: int | Sequence[int],
    parameters: Parameters = (),
    components: Mapping[str, tuple[str, str]] | None = None,
    capabilities: Collection[str] = (),
    without: Collection[str] = (),
    time_limit: float | None = TIME_LIMIT,
) -> Pair:
    """Describe a pair of actor-critics that claim to behave the same.

    Args:
        name: short and unique; it appears in test ids and reports.
        reference: what is right: a builder, or a ``Side`` where the policy is not of the plainest form.
        candidate: what is judged, likewise.
        observations: what both see: one description, or several by name.
        actions: how many discrete actions there are, or how many for each head.
        parameters: names of reference parameters and of the candidate's that hold the same, or ``ParameterLink``s where
            one holds a part of the other. What is not named is inferred from initial values, names and shapes.
        components: name -> (path in the reference, path in the candidate) of modules that must give the same outputs.
            Left out, modules that hold the same parameters are found; they say where a difference comes from and are
            not judged themselves.
        capabilities: what else the policies can do, see ``parity.CAPABILITIES``, or what own checks need.
        without: what of the usual they cannot do.
        time_limit: seconds that judging one cell may take; None for no limit.

    Raises:
        Misuse: something contradicts itself; the message names it and the remedy.
    """
    if not isinstance(name, str) or not name or "/" in name:
        raise Misuse(f"pair: name is {name!r}; give a short text without '/'")
    _require_limit(name, time_limit)
    sides = {"reference": _side(name, "reference", reference), "candidate": _side(name, "candidate", candidate)}
    environment = described(observations, actions)
    return Pair(
        name=name,
        recipe=Recipe(AgentConfig(components={}), cast(EnvironmentDescription, environment)),
        reference=SideBuilder(sides["reference"], name, "reference"),
        candidate=SideBuilder(sides["candidate"], name, "candidate"),
        components=_components(components),
        infer_components=components is None,
        generate=cast(Generator, draw_observations),
        parameters=_links(parameters),
        infer_rest=True,
        capabilities=_capabilities(name, sides, capabilities, without),
        optimizer=lambda side, module: _NamedOptimizer(sides[side], module),
        described=True,
        time_limit=time_limit,
        source=_caller(),
    )


def fused(references: Sequence[str], candidate: str, *, rows: int | Sequence[int]) -> tuple[ParameterLink, ...]:
    """Links for a candidate parameter that holds several of the reference's, one below the other.

    Args:
        references: their names, in order.
        candidate: its name.
        rows: how many rows each has, or one number for all.
    """
    sizes = [rows] * len(references) if isinstance(rows, int) else list(rows)
    if len(sizes) != len(references):
        raise Misuse(f"fused: {len(references)} parameters and {len(sizes)} numbers of rows; give one for each")
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return tuple(
        ParameterLink(reference, candidate, candidate_region=((start, start + size),))
        for reference, start, size in zip(references, starts, sizes, strict=True)
    )


def _side(name: str, key: str, given: Any) -> Side:
    if isinstance(given, Side):
        return given
    if not callable(given) or isinstance(given, nn.Module):
        what = "a policy that is built already" if isinstance(given, nn.Module) else f"{given!r:.80}"
        raise Misuse(f"pair {name!r}: {key} is {what}; give a function that builds it, or a parity.Side")
    return Side(cast(Callable[..., nn.Module], given))


def _require_limit(name: str, limit: Any) -> None:
    number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    if limit is not None and not (number and 0 < limit < math.inf):
        raise Misuse(
            f"pair {name!r}: time_limit is {limit!r:.80}; give a positive number of seconds, or None for no limit"
        )


def _components(declared: Mapping[str, tuple[str, str]] | None) -> tuple[ComponentLink, ...]:
    links = []
    for name, paths in (declared or {}).items():
        if isinstance(paths, str) or len(paths) != 2:
            raise Misuse(f"components: {name!r} is {paths!r}; give (path in the reference, path in the candidate)")
        links.append(ComponentLink(name, *paths))
    return tuple(links)


def _links(parameters: Parameters) -> tuple[ParameterLink, ...]:
    if isinstance(parameters, Mapping):
        return tuple(ParameterLink(str(mine), str(theirs)) for mine, theirs in parameters.items())
    links = tuple(parameters)
    for link in links:
        if not isinstance(link, ParameterLink):
            raise Misuse(
                f"parameters: {link!r:.80} is no ParameterLink; give those, a mapping of names, or parity.fused(...)"
            )
    return links


def _capabilities(
    name: str, sides: Mapping[str, Side], given: Collection[str], without: Collection[str]
) -> frozenset[str]:
    for key, names in (("capabilities", given), ("without", without)):
        if isinstance(names, str):
            raise Misuse(f"pair {name!r}: {key} is the text {names!r}; give a set of names, {{{names!r}}}")
        _require_known(name, key, names)
    found = set(USUAL) | set(given)
    for capability, function in _RESTS_ON.items():
        having = [key for key, side in sides.items() if getattr(side, function) is not None]
        lacking = [key for key in sides if key not in having]
        either = capability == "sequences"
        if having and (either or not lacking):
            found.add(capability)
        elif having or capability in given:
            raise Misuse(
                f"pair {name!r} has the capability {capability!r}, and the {' and '.join(lacking)} gives no "
                f"{function}; give parity.Side(..., {function}=...) for both sides, or for neither"
            )
    if any(side.resets_itself for side in sides.values()):
        found.add("resets")
    return frozenset(found - set(without))


def _require_known(name: str, key: str, names: Collection[str]) -> None:
    known = {*CAPABILITIES, *(need for check in own_checks().values() for need in check.needs)}
    for unknown in set(names) - known:
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=_NEAR)
        if near or key == "without":
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(USUAL))}"
            raise Misuse(f"pair {name!r}: {key} names {unknown!r}, which is no capability; {hint}")
    foreign = sorted(set(names) & {each for each, about in CAPABILITIES.items() if not about.offered})
    if foreign:
        raise Misuse(
            f"pair {name!r}: {key} names {foreign[0]!r}, which needs the full interface of parity.agents; see "
            "parity/agents/README.md for a pair that has it"
        )


class _NamedOptimizer:
    """A torch optimizer whose state goes by the names of parameters."""

    def __init__(self, side: Side, module: nn.Module) -> None:
        policy = module.policy if side.optimizer is not None else module
        make = side.optimizer or (lambda policy: optim.Adam(policy.parameters(), lr=_LEARNING_RATE))
        made = make(policy)
        if not isinstance(made, optim.Optimizer):
            raise Misuse(f"optimizer(policy) returned {type(made).__name__}; it must return a torch optimizer")
        self._made = made
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self.zero_grad, self.step = made.zero_grad, made.step

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Parameter name -> what is kept of it."""
        return {self._names[id(key)]: dict(kept) for key, kept in self._made.state.items() if id(key) in self._names}


def _caller() -> str:
    """What ``--import`` takes to make the pair that is being made: a file below the current folder, or a module."""
    frame = sys._getframe(2)
    name, file = frame.f_globals.get("__name__", ""), frame.f_globals.get("__file__")
    if file is None:
        return ""
    path = Path(file).resolve()
    below = path.is_relative_to(Path.cwd()) and "site-packages" not in path.parts
    return str(path.relative_to(Path.cwd())) if below or name == "__main__" else name

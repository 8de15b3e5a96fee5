"""Finding components by themselves: modules of both sides that hold each other's parameters.

Two modules may hold the same parameters and yet not compute the same, for instance where one of them includes the
activation behind it. So components found here never decide anything: they are watched only to say where a difference in
the outputs comes from.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from tensordict import TensorDict
from torch import nn

from parity.agents.interface import ENV_OBS
from parity.compare.verdict import Inconclusive, Misuse
from parity.leaving import staying
from parity.pairs.builds import Builds
from parity.pairs.parameters import ParameterMap
from parity.pairs.recipe import ComponentLink

_ROWS = 2


def inferred_components(builds: Builds, *, who: str = "reference") -> tuple[ComponentLink, ...]:
    """Components of a pair, in the order in which the reference finishes them; none where its parameters have no map.

    Args:
        builds: of the pair.
        who: what the reference is, for messages: a recording has one side as both.

    Raises:
        Misuse: the reference does not run on drawn observations.
    """
    recipe = builds.pair.recipe.with_system(dtype=torch.float64, device="cpu")
    try:
        sides = builds.sides(recipe, None).copy()
    except Inconclusive:  # every check that needs the map says so itself
        _finished(builds, builds.build("reference", recipe).policy, who)
        return ()
    order = _finished(builds, sides.reference.policy, who)
    partners = _partners(sides.reference.policy, sides.candidate.policy, sides.parameters)
    return tuple(ComponentLink(path, path, partners[path]) for path in order if path in partners)


def _partners(reference: nn.Module, candidate: nn.Module, parameters: ParameterMap) -> dict[str, str]:
    """Path of a reference module -> path of the candidate's that holds exactly its parameters."""
    mine, theirs = _held(reference), _held(candidate)
    linked = {name: set(parameters.candidate_names(name)) for name, _ in reference.named_parameters()}
    found: dict[str, str] = {}
    for path, names in mine.items():
        wanted = frozenset(other for name in names for other in linked[name])
        fits = [other for other, held in theirs.items() if held == wanted]
        if fits:
            found[path] = path if path in fits else fits[-1]  # of modules around one another the innermost
    shared = {other for other in found.values() if len({mine[path] for path in found if found[path] == other}) > 1}
    innermost = {other: path for path, other in found.items() if other not in shared}
    return {path: other for other, path in innermost.items()}


def _held(module: nn.Module) -> dict[str, frozenset[str]]:
    """Path of each submodule with parameters -> their full names; a tied one has the first of its names everywhere."""
    found = {}
    full = {id(parameter): name for name, parameter in module.named_parameters()}
    for path, part in module.named_modules():
        names = frozenset(full[id(parameter)] for parameter in part.parameters())
        if path and names:
            found[path] = names
    return found


def _finished(builds: Builds, policy: nn.Module, who: str) -> list[str]:
    """Paths of the modules that a forward pass calls, in the order in which they return."""
    order: dict[str, None] = {}

    def finish(path: str) -> Any:
        return lambda *_: order.setdefault(path)

    handles = [part.register_forward_hook(finish(path)) for path, part in policy.named_modules() if path]
    pair = builds.pair
    rows = pair.generate(pair.recipe.environment, rows=_ROWS, seed=0)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with staying(f"the {who} of pair {pair.name!r}"):
                policy(TensorDict({ENV_OBS: rows}, batch_size=[_ROWS]))
    except Misuse:
        raise
    except Exception as error:
        raise Misuse(
            f"the {who} of pair {pair.name!r} does not run in float64 on drawn observations: "
            f"{type(error).__name__}: {error}; correct the description of the observations, or make tensors in the "
            "dtype of the weights"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return list(order)

"""Ways in which a component graph's YAML can be wrong, each of which a policy must refuse by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from parity.agents.errors import ConfigError
from parity.pairs.recipe import Pair, Recipe

REFUSED, BUILT = "refused", "built"
ADDED = "a_component_too_many"

Graph = Mapping[str, Mapping[str, Any]]

_KEY = "a_key_nobody_knows"
_NO_SIZES = (0, "3", True)
_NO_SCALES = (-1.0, float("nan"), "1", True)


@dataclass(frozen=True)
class Damage:
    """One thing wrong in one component.

    Attributes:
        component: whose name the refusal must hold.
        what: a few words, unique within the component.
        components: the whole graph with it.
        refused_by: a graph that only ``the candidate`` must refuse may be another network's, which a reference that
            builds any graph accepts; what is legal for some kinds of component must be met ``alike``; what
            ``nobody`` must refuse is the same in other words.
    """

    component: str
    what: str
    components: Graph
    refused_by: Literal["both", "the candidate", "alike", "nobody"] = "both"


def damages(components: Graph) -> Iterator[Damage]:
    """Everything that is judged: one thing wrong at a time, in every component."""
    for name, settings in components.items():
        without = {other: value for other, value in components.items() if other != name}
        is_read = any({"name": name} in (other.get("sources") or ()) for other in without.values())
        yield Damage(name, "the component is missing", without, "both" if is_read else "the candidate")
        changes = (_rewired(name, settings, list(without)), _misspelt(settings), _out_of_range(settings))
        for damage in (*chain.from_iterable(changes), *_spelt_otherwise(settings)):
            what, changes, *refused_by = damage
            merged = {key: value for key, value in {**settings, **changes}.items() if value is not ...}
            yield Damage(name, what, {**components, name: merged}, *refused_by)
    first = next(iter(components.values()))
    yield Damage(ADDED, "a component of no use", {**components, ADDED: first}, "the candidate")


def met(pair: Pair, side: str, recipe: Recipe, damage: Damage) -> str:
    """What one side does with a damaged graph: ``REFUSED``, ``BUILT``, or what is wrong with its refusal."""
    config = dataclasses.replace(recipe.config, components=damage.components)
    try:
        getattr(pair, side)(dataclasses.replace(recipe, config=config))
    except ConfigError as refusal:
        named = repr(damage.component) in str(refusal)
        return REFUSED if named else f"refused without naming component {damage.component!r}: {refusal}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return BUILT


def alike(first: str, second: str) -> bool:
    """Whether two sides meet a graph alike: both build it, or both refuse it as a wrong configuration."""
    return first == second == BUILT or (first.startswith(REFUSED) and second.startswith(REFUSED))


def _rewired(name: str, settings: Mapping[str, Any], others: list[str]) -> Iterator[tuple[Any, ...]]:
    sources = settings.get("sources") or []
    other = next(other for other in others if {"name": other} not in sources)
    yield "_target_ of no kind", {"_target_": "NoSuchKind"}
    yield "_target_ that is no name", {"_target_": None}
    yield "sources of another component", {"sources": [{"name": other}]}, "the candidate"
    yield "sources that is no list", {"sources": "cnn1"}
    yield "sources that is a number", {"sources": 7}
    yield "sources with a further key", {"sources": [{"name": other, _KEY: 1}]}
    yield "sources without a mapping", {"sources": [other]}
    yield "sources without a name", {"sources": [{}]}
    yield "sources that do not exist", {"sources": [{"name": _KEY}]}
    if sources:
        yield "no sources", {"sources": None}
        yield "its own sources with a further key", {"sources": [{**source, _KEY: 1} for source in sources]}


def _misspelt(settings: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    yield "an unknown key", {_KEY: 1}
    yield "nn_params that is no mapping", {"nn_params": 7}
    yield "an unknown key in nn_params", {"nn_params": {**(settings.get("nn_params") or {}), _KEY: 1}}
    yield "nonlinearity of no kind", {"nonlinearity": "nn.NoSuchThing"}
    yield "analyze_weights is 'yes'", {"analyze_weights": "yes"}
    for key in ("use_mask", "use_cls_token"):  # true or false may be all that a kind knows, or no key of it
        for value in (True, False):
            yield f"{key} is {value!r}", {key: value}, "alike"


def _out_of_range(settings: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    params = settings.get("nn_params") or {}
    for key, value in params.items():
        if isinstance(value, int):
            left = {other: kept for other, kept in params.items() if other != key}
            yield f"nn_params.{key} is left out", {"nn_params": left}, "alike"  # it may have a default
            for wrong in (*_NO_SIZES, 2.5):
                yield f"nn_params.{key} is {wrong!r}", {"nn_params": {**params, key: wrong}}
    for key, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            for wrong in _NO_SIZES:
                yield f"{key} is {wrong!r}", {key: wrong}
            yield f"{key} is left out", {key: ...}, "alike"
            for wrong in (2.5, 7, 1, 1 / 32, None):  # no divisor of a width, or two that disagree, or too few
                yield f"{key} is {wrong!r}", {key: wrong}, "alike"
    for key in ("clip_scale", "l2_init_scale"):
        for wrong in _NO_SCALES:
            yield f"{key} is {wrong!r}", {key: wrong}
    yield "hidden_size beside another output_size", {"nn_params": {**params, "hidden_size": 7}}, "alike"


def _spelt_otherwise(settings: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What means the same in other words, and is nothing to refuse."""
    upstream = {"_target_": f"metta.agent.lib.somewhere.{settings['_target_']}", "analyze_weights": True}
    annotations = {"effective_rank": True, "mlp_out_hidden_dim": 7, "atr_embed_dim": 7}
    yield "upstream's _target_ and annotations", {**upstream, **annotations}, "nobody"
    yield "_target_ of another package", {"_target_": f"another.agent.lib.{settings['_target_']}"}
    if settings["_target_"] == "LSTM":
        size, params = settings["output_size"], settings.get("nn_params") or {}
        twice = {"output_size": size, "nn_params": {**params, "hidden_size": size}}
        yield "its width said twice", twice, "nobody"
        yield "its width as hidden_size", {**twice, "output_size": None}, "nobody"
        yield "no width", {"output_size": None}

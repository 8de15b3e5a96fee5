"""Reading ``components`` against the one graph that a hand-written agent implements.

The agent's wiring is Python, so a YAML can only set its sizes and per-layer options. Everything else in it must be
exactly what the agent does, or the agent would silently be another network than its YAML says.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parity.agents.errors import ConfigError

UPSTREAM_PREFIX = "metta.agent.lib."
NONLINEARITIES = ("nn.ReLU", "nn.Tanh", None)

_ANNOTATIONS = frozenset({"effective_rank", "analyze_weights", "output_size", "mlp_out_hidden_dim", "atr_embed_dim"})
_COMMON_KEYS = _ANNOTATIONS | {"_target_", "sources", "nn_params"}
_LAYER_KEYS = frozenset({"nonlinearity", "clip_scale", "l2_init_scale"})


@dataclass(frozen=True)
class Node:
    """What an agent expects of one component: its kind (the last part of ``_target_``) and its sources, in order."""

    kind: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """The integers a kind of component takes in ``nn_params``, and whether it is a Linear/Conv layer."""

    required: tuple[str, ...] = ()
    defaults: Mapping[str, int | None] = field(default_factory=dict)
    is_layer: bool = False


KINDS: Mapping[str, Kind] = {
    "ObsTokenToBoxShaper": Kind(),
    "ObservationNormalizer": Kind(),
    "Flatten": Kind(),
    "Conv2d": Kind(required=("out_channels", "kernel_size"), defaults={"stride": 1}, is_layer=True),
    "Linear": Kind(required=("out_features",), is_layer=True),
    "LSTM": Kind(defaults={"num_layers": 1, "hidden_size": None}),
    "ActionEmbedding": Kind(required=("num_embeddings", "embedding_dim")),
    "MettaActorSingleHead": Kind(),
}


@dataclass(frozen=True)
class Component:
    """One component's validated settings.

    ``sizes`` holds the integers of ``nn_params``, defaults filled in; for an LSTM ``hidden_size`` is always there,
    whichever of the two spellings gave it. ``where`` names file and component, for messages.
    """

    name: str
    kind: str
    where: str
    sizes: Mapping[str, int]
    nonlinearity: str | None = "nn.ReLU"
    clip_scale: float = 1.0
    l2_init_scale: float = 1.0
    analyze_weights: bool = False


def nearest(word: object, known: Iterable[str]) -> str:
    """The known spelling that looks most like ``word``."""
    return difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.0)[0]


def read_graph(
    components: Mapping[str, Mapping[str, Any]], nodes: Mapping[str, Node], *, agent: str, source: str = ""
) -> dict[str, Component]:
    """Validate ``components`` against ``nodes`` and return the settings by name, in the YAML's order.

    Args:
        components: the YAML's raw mapping.
        nodes: the agent's own graph.
        agent: the agent's name, for messages.
        source: the file the mapping was read from, for messages.

    Raises:
        ConfigError: a component is missing or foreign, has another kind or other sources, an unknown key, or a value
            that is no legal size or option.
    """
    origin = source or "agent config"
    for name in components:
        if name not in nodes:
            raise ConfigError(
                f"{origin}: component {name!r} does not belong to agent_type {agent!r} (nearest: "
                f"{nearest(name, nodes)!r}); rename or remove it, or leave agent_type out to build the graph as written"
            )
    for name in nodes:
        if name not in components:
            raise ConfigError(
                f"{origin}: component {name!r} is missing; agent_type {agent!r} needs {', '.join(map(repr, nodes))}"
            )
    return {
        name: _read_component(name, settings, nodes[name], f"{origin}: component {name!r}")
        for name, settings in components.items()
    }


def _read_component(name: str, settings: Mapping[str, Any], node: Node, where: str) -> Component:
    target = settings.get("_target_")
    if not isinstance(target, str) or _short_target(target) != node.kind:
        raise ConfigError(
            f"{where}: _target_ is {target!r}; write {node.kind!r} (or upstream's "
            f"'{UPSTREAM_PREFIX}<module>.{node.kind}')"
        )
    sources = _read_sources(settings.get("sources"), where)
    if sources != node.sources:
        raise ConfigError(f"{where}: sources are {list(sources)}; this agent reads {list(node.sources)} there")
    kind = KINDS[node.kind]
    known = _COMMON_KEYS | _LAYER_KEYS if kind.is_layer else _COMMON_KEYS
    for key in settings:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r} (nearest: {nearest(key, known)!r}); rename or remove it")
    sizes = _read_sizes(settings.get("nn_params") or {}, kind, where)
    if node.kind == "LSTM":
        sizes["hidden_size"] = _hidden_size(sizes.get("hidden_size"), settings.get("output_size"), where)
    analyze = settings.get("analyze_weights", False)
    if not isinstance(analyze, bool):
        raise ConfigError(f"{where}: analyze_weights is {analyze!r}; give true or false")
    nonlinearity = settings.get("nonlinearity", "nn.ReLU")
    if nonlinearity not in NONLINEARITIES:
        raise ConfigError(f"{where}: nonlinearity is {nonlinearity!r}; give nn.ReLU, nn.Tanh or null")
    return Component(
        name=name,
        kind=node.kind,
        where=where,
        sizes=sizes,
        nonlinearity=nonlinearity,
        clip_scale=_scale(settings, "clip_scale", where),
        l2_init_scale=_scale(settings, "l2_init_scale", where),
        analyze_weights=analyze,
    )


def _short_target(target: str) -> str:
    if target.startswith(UPSTREAM_PREFIX):
        return target.rpartition(".")[2]
    return target


def _read_sources(sources: Any, where: str) -> tuple[str, ...]:
    if sources is None:
        return ()
    if not isinstance(sources, list | tuple):
        raise ConfigError(f"{where}: sources is {sources!r}; give null or a list such as [{{name: _obs_}}]")
    for entry in sources:
        if not isinstance(entry, Mapping) or set(entry) != {"name"}:
            raise ConfigError(f"{where}: sources holds {entry!r}; give {{name: <component>}} and nothing else")
    return tuple(entry["name"] for entry in sources)


def _read_sizes(params: Any, kind: Kind, where: str) -> dict[str, int]:
    if not isinstance(params, Mapping):
        raise ConfigError(f"{where}: nn_params is {params!r}; give a mapping")
    known = (*kind.required, *kind.defaults)
    for key in params:
        if key not in known:
            hint = f"(nearest: {nearest(key, known)!r}); rename or remove it" if known else "; this kind takes none"
            raise ConfigError(f"{where}: unknown key {key!r} in nn_params {hint}")
    for key in kind.required:
        if key not in params:
            raise ConfigError(f"{where}: nn_params lacks {key!r}; give a whole number of at least 1")
    sizes: dict[str, int] = {}
    for key in known:
        value = params.get(key, kind.defaults.get(key))
        if value is not None or key in params:
            sizes[key] = _size(value, f"nn_params.{key}", where)
    return sizes


def _size(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}: {key} is {value!r}; give a whole number of at least 1")
    return value


def _hidden_size(hidden_size: int | None, output_size: Any, where: str) -> int:
    """``nn_params.hidden_size`` or upstream's ``output_size``; both only when they agree."""
    if output_size is None and hidden_size is None:
        raise ConfigError(f"{where}: neither output_size nor nn_params.hidden_size is given; give one of them")
    if output_size is None:
        return _size(hidden_size, "nn_params.hidden_size", where)
    output_size = _size(output_size, "output_size", where)
    if hidden_size not in (None, output_size):
        raise ConfigError(
            f"{where}: output_size is {output_size} but nn_params.hidden_size is {hidden_size}; give one of them"
        )
    return output_size


def _scale(settings: Mapping[str, Any], key: str, where: str) -> float:
    value = settings.get(key, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{where}: {key} is {value!r}; give a finite number >= 0")
    return float(value)

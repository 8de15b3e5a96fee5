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
_SCALE_KEYS = frozenset({"clip_scale", "l2_init_scale"})
_ALIASES: Mapping[str, str] = {"ConcatMergeLayer": "Concat"}


@dataclass(frozen=True)
class Node:
    """What an agent expects of one component: its kind (the last part of ``_target_``) and its sources, in order."""

    kind: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """The keys that a kind of component takes.

    ``required`` and ``defaults`` are integers, in ``nn_params`` or, where ``is_inline``, beside ``sources``. A layer
    (Linear, Conv) has a nonlinearity; it and what else ``has_weights`` can scale clipping and the l2-init loss.
    ``flags`` are accepted at the one value that says what the agent does anyway; ``ratios`` are numbers, not integers.
    """

    required: tuple[str, ...] = ()
    defaults: Mapping[str, int | None] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    is_layer: bool = False
    is_inline: bool = False
    has_weights: bool = False

    @property
    def sizes(self) -> tuple[str, ...]:
        """The names of all integers, required ones first."""
        return (*self.required, *self.defaults)

    @property
    def keys(self) -> frozenset[str]:
        """Every key that such a component may have beside its name."""
        keys = _COMMON_KEYS | self.flags.keys() | self.ratios.keys() | set(self.sizes if self.is_inline else ())
        if self.is_layer:
            keys |= {"nonlinearity"}
        return keys | _SCALE_KEYS if self.is_layer or self.has_weights else keys


KINDS: Mapping[str, Kind] = {
    "ObsTokenToBoxShaper": Kind(),
    "ObservationNormalizer": Kind(),
    "Flatten": Kind(),
    "Conv2d": Kind(required=("out_channels", "kernel_size"), defaults={"stride": 1}, is_layer=True),
    "Linear": Kind(required=("out_features",), is_layer=True),
    "LSTM": Kind(defaults={"num_layers": 1, "hidden_size": None}),
    "ActionEmbedding": Kind(required=("num_embeddings", "embedding_dim")),
    "MettaActorSingleHead": Kind(),
    "CenterCell": Kind(),
    "Concat": Kind(),
    "ObsTokenPadStrip": Kind(),
    "ObsAttrValNorm": Kind(),
    "ObsAttrEmbedFourier": Kind(required=("attr_embed_dim", "num_freqs"), is_inline=True),
    "ObsLatentAttn": Kind(
        required=("out_dim", "num_query_tokens", "num_layers", "num_heads"),
        defaults={"query_token_dim": 32},
        flags={"use_mask": True},
        ratios={"mlp_ratio": 4.0},
        is_inline=True,
        has_weights=True,
    ),
    "ObsSelfAttn": Kind(
        required=("out_dim", "num_layers", "num_heads"),
        flags={"use_cls_token": True, "use_mask": False},
        is_inline=True,
        has_weights=True,
    ),
}


@dataclass(frozen=True)
class Component:
    """One component's validated settings.

    ``sizes`` holds the integers of the component's kind, defaults filled in; for an LSTM ``hidden_size`` is always
    there, whichever of the two spellings gave it. ``where`` names file and component, for messages.
    """

    name: str
    kind: str
    where: str
    sizes: Mapping[str, int]
    ratios: Mapping[str, float] = field(default_factory=dict)
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
    for key in settings:
        if key not in kind.keys:
            raise ConfigError(
                f"{where}: unknown key {key!r} (nearest: {nearest(key, kind.keys)!r}); rename or remove it"
            )
    for key, value in kind.flags.items():
        if settings.get(key, value) is not value:
            raise ConfigError(f"{where}: {key} is {settings[key]!r}; give {str(value).lower()}, or leave it out")
    sizes = _read_sizes(settings, kind, where)
    if node.kind == "LSTM":
        sizes["hidden_size"] = _hidden_size(sizes.get("hidden_size"), settings.get("output_size"), where)
    analyze = settings.get("analyze_weights", False)
    if not isinstance(analyze, bool):
        raise ConfigError(f"{where}: analyze_weights is {analyze!r}; give true or false")
    nonlinearity = settings.get("nonlinearity", "nn.ReLU") if kind.is_layer else None
    if nonlinearity not in NONLINEARITIES:
        raise ConfigError(f"{where}: nonlinearity is {nonlinearity!r}; give nn.ReLU, nn.Tanh or null")
    return Component(
        name=name,
        kind=node.kind,
        where=where,
        sizes=sizes,
        ratios={key: _number(settings, key, default, where) for key, default in kind.ratios.items()},
        nonlinearity=nonlinearity,
        clip_scale=_number(settings, "clip_scale", 1.0, where),
        l2_init_scale=_number(settings, "l2_init_scale", 1.0, where),
        analyze_weights=analyze and kind.is_layer,
    )


def _short_target(target: str) -> str:
    short = target.rpartition(".")[2] if target.startswith(UPSTREAM_PREFIX) else target
    return _ALIASES.get(short, short)


def _read_sources(sources: Any, where: str) -> tuple[str, ...]:
    if sources is None:
        return ()
    if not isinstance(sources, list | tuple):
        raise ConfigError(f"{where}: sources is {sources!r}; give null or a list such as [{{name: _obs_}}]")
    for entry in sources:
        if not isinstance(entry, Mapping) or set(entry) != {"name"}:
            raise ConfigError(f"{where}: sources holds {entry!r}; give {{name: <component>}} and nothing else")
    return tuple(entry["name"] for entry in sources)


def _read_sizes(settings: Mapping[str, Any], kind: Kind, where: str) -> dict[str, int]:
    params = _nn_params(settings, () if kind.is_inline else kind.sizes, where)
    place = "nn_params."
    if kind.is_inline:
        params, place = settings, ""
    for key in kind.required:
        if key not in params:
            raise ConfigError(f"{where}: {place}{key} is missing; give a whole number of at least 1")
    sizes: dict[str, int] = {}
    for key in kind.sizes:
        value = params.get(key, kind.defaults.get(key))
        if value is not None or key in params:
            sizes[key] = _size(value, f"{place}{key}", where)
    return sizes


def _nn_params(settings: Mapping[str, Any], known: tuple[str, ...], where: str) -> Mapping[str, Any]:
    params = settings.get("nn_params") or {}
    if not isinstance(params, Mapping):
        raise ConfigError(f"{where}: nn_params is {params!r}; give a mapping")
    for key in params:
        if key not in known:
            hint = f" (nearest: {nearest(key, known)!r}); rename or remove it" if known else "; this kind takes none"
            raise ConfigError(f"{where}: unknown key {key!r} in nn_params{hint}")
    return params


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


def _number(settings: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{where}: {key} is {value!r}; give a finite number >= 0")
    return float(value)

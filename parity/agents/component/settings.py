"""One component's settings, read from its YAML mapping; every key is checked, every message names file and remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parity.agents.errors import ConfigError

#: Keys that upstream's YAMLs carry for other tools. They are accepted everywhere and change no output.
ANNOTATIONS = frozenset({"effective_rank", "analyze_weights", "output_size", "mlp_out_hidden_dim", "atr_embed_dim"})

_STRUCTURE = frozenset({"_target_", "sources", "nn_params"})


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest of ``known``, or the list of all of them when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is known here"


@dataclass(frozen=True)
class Source:
    """One entry of ``sources``: the component it names, and the further keys that the component's kind allows."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ComponentSettings:
    """One component of the YAML, its keys known to be legal for its kind; values are checked when they are read.

    Attributes:
        name: the component's name in the YAML.
        sources: the components whose outputs it takes, in order.
        nn_params: the mapping of that name, empty if absent.
        options: every other key but ``_target_``, annotations included.
        file: what to call the YAML in messages.
    """

    name: str
    sources: tuple[Source, ...]
    nn_params: Mapping[str, Any]
    options: Mapping[str, Any]
    file: str

    def error(self, problem: str) -> ConfigError:
        """Return a ConfigError that says where: file and component."""
        return component_error(self.file, self.name, problem)

    def whole(self, key: str, default: int | None = None, *, at_least: int = 1) -> int:
        """Read a whole number from ``nn_params``; without a ``default`` it must be there."""
        if default is None and key not in self.nn_params:
            raise self.error(f"nn_params has no {key!r}; give a whole number of at least {at_least}")
        return self._whole(f"nn_params.{key}", self.nn_params.get(key, default), at_least)

    def whole_option(self, key: str, default: int | None = None) -> int:
        """Read a whole number of at least 1 from the component's own keys; without a ``default`` it must be there."""
        if default is None and key not in self.options:
            raise self.error(f"has no {key!r}; give a whole number of at least 1")
        return self._whole(key, self.options.get(key, default), 1)

    def _whole(self, where: str, value: object, at_least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.error(f"{where} is {value!r}; give a whole number of at least {at_least}")
        return value

    def number(self, values: Mapping[str, Any], key: str, default: float) -> float:
        """Read a finite number >= 0 from ``values`` (``options`` or ``nn_params``)."""
        value = values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise self.error(f"{key} is {value!r}; give a finite number >= 0")
        return float(value)

    def flag(self, key: str) -> bool:
        """Read a true or false from the component's own keys, false if absent."""
        value = self.options.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key} is {value!r}; give true or false")
        return value


def component_error(file: str, name: str, problem: str) -> ConfigError:
    """Return a ConfigError whose message starts with the file and the component."""
    return ConfigError(f"{file}: component {name!r}: {problem}")


def read_settings(
    name: str,
    raw: Mapping[str, Any],
    file: str,
    *,
    options: Collection[str],
    nn_params: Collection[str],
    source_options: Collection[str],
) -> ComponentSettings:
    """Check one component's mapping against the keys that its kind knows.

    Args:
        name: the component's name.
        raw: its mapping in the YAML.
        file: what to call the YAML in messages.
        options: keys the kind knows beside the ones every component has.
        nn_params: keys the kind knows inside ``nn_params``.
        source_options: keys the kind knows inside a source, beside ``name``.

    Raises:
        ConfigError: a key is unknown, or ``analyze_weights``, ``nn_params`` or ``sources`` has the wrong form.
    """
    known = _STRUCTURE | ANNOTATIONS | set(options)
    for key in raw:
        if key not in known:
            raise component_error(file, name, f"unknown key {key!r}; {did_you_mean(key, known)}")
    if not isinstance(raw.get("analyze_weights", False), bool):
        raise component_error(file, name, f"analyze_weights is {raw['analyze_weights']!r}; give true or false")
    given = raw.get("nn_params")
    if given is not None and not isinstance(given, Mapping):
        raise component_error(file, name, f"nn_params is {given!r}; give a mapping such as {{out_features: 128}}")
    for key in given or {}:
        if key not in nn_params:
            raise component_error(file, name, f"unknown key {key!r} in nn_params; {did_you_mean(key, nn_params)}")
    return ComponentSettings(
        name=name,
        sources=_read_sources(name, raw.get("sources"), file, source_options),
        nn_params=dict(given or {}),
        options={key: value for key, value in raw.items() if key not in _STRUCTURE},
        file=file,
    )


def _read_sources(name: str, raw: Any, file: str, allowed: Collection[str]) -> tuple[Source, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, (list, tuple)):
        raise component_error(file, name, f"sources is {raw!r}; give null or a list such as [{{name: _obs_}}]")
    sources = []
    for entry in raw:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise component_error(file, name, f"source {entry!r} is not a mapping with a name; write {{name: _obs_}}")
        for key in entry:
            if key != "name" and key not in allowed:
                hint = did_you_mean(key, {"name", *allowed})
                raise component_error(file, name, f"unknown key {key!r} in source {entry['name']!r}; {hint}")
        sources.append(Source(entry["name"], {key: value for key, value in entry.items() if key != "name"}))
    return tuple(sources)

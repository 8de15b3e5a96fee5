"""Reading agent and environment YAMLs: safe, strict about duplicates and types, and kind about what is wrong."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from parity.agents.errors import ConfigError
from parity.agents.interface import AgentConfig, EnvironmentDescription, Feature


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ConfigError(f"{self.name}, line {key_node.start_mark.line + 1}: {key!r} cannot be a key")
            if key in seen:
                raise ConfigError(
                    f"{self.name}, line {key_node.start_mark.line + 1}: duplicate key {key!r}; "
                    "rename or remove one of the two"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or holds no mapping; the message names file
            and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the path of a YAML file") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """``read_yaml`` for text at hand; ``source`` stands in for the path in messages."""
    loader = _StrictLoader(text)
    loader.name = source
    try:
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{source}{line}: not valid YAML ({problem}); fix the syntax there") from error
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise ConfigError(
            f"{source}: holds {type(content).__name__}, not a mapping of keys; see fixtures/agents/fast.yaml"
        )
    return content


def load_agent_config(path: Path | str) -> AgentConfig:
    """Read an agent YAML; see ``agent_config``."""
    return agent_config(read_yaml(path), source=str(path))


def agent_config(content: Mapping[str, Any], *, source: str = "") -> AgentConfig:
    """Turn a YAML's content into an AgentConfig.

    Unknown top-level keys (upstream has ``_target_``, ``policy_selector``, ...) land in ``extra``. Components are
    checked for being mappings only: what they mean is for each implementation to say.

    Raises:
        ConfigError: ``components`` is missing or not a mapping of mappings, or a known key has a wrong type or value.
    """
    where = source or "agent config"
    rest = dict(content)
    components = rest.pop("components", None)
    if not isinstance(components, Mapping) or not components:
        raise ConfigError(
            f"{where}: 'components' is {components!r}; give a mapping from component name to its settings"
        )
    for name, settings in components.items():
        if not isinstance(name, str) or "." in name or not name:
            raise ConfigError(f"{where}: component name {name!r} must be a non-empty string without dots")
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{where}: component {name!r} is {settings!r}; give a mapping with '_target_'")
    agent_type = rest.pop("agent_type", None)
    if agent_type is not None and not isinstance(agent_type, str):
        raise ConfigError(f"{where}: agent_type is {agent_type!r}; give the name of a PyTorch agent or leave it out")
    observations = rest.pop("observations", None) or {}
    if not isinstance(observations, Mapping):
        raise ConfigError(f"{where}: observations is {observations!r}; give a mapping such as {{obs_key: grid_obs}}")
    return AgentConfig(
        components={name: dict(settings) for name, settings in components.items()},
        agent_type=agent_type,
        clip_range=_number(rest.pop("clip_range", 0.0), "clip_range", where),
        analyze_weights_interval=_count(rest.pop("analyze_weights_interval", 300), "analyze_weights_interval", where),
        l2_init_weight_update_interval=_count(
            rest.pop("l2_init_weight_update_interval", 0), "l2_init_weight_update_interval", where
        ),
        observations=dict(observations),
        extra=rest,
        source=source,
    )


def load_environment(path: Path | str) -> EnvironmentDescription:
    """Read an environment YAML; see ``environment_description``."""
    return environment_description(read_yaml(path), source=str(path))


def environment_description(content: Mapping[str, Any], *, source: str = "") -> EnvironmentDescription:
    """Build an EnvironmentDescription from a mapping with exactly its field names.

    Raises:
        ConfigError: a key is unknown or missing, or a value is illegal.
    """
    where = f"environment {source or '(mapping)'}"
    known = {"obs_width", "obs_height", "num_tokens", "action_names", "max_action_args", "features"}
    unknown, missing = sorted(set(content) - known, key=str), sorted(known - set(content))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(known))}")
    if missing:
        raise ConfigError(f"{where}: missing key {missing[0]!r}")
    if not isinstance(content["features"], Mapping):
        raise ConfigError(f"{where}: features is {content['features']!r}; give {{name: {{id, normalization}}}}")
    features: dict[str, Feature] = {}
    for name, settings in content["features"].items():
        if not isinstance(settings, Mapping) or "id" not in settings or set(settings) - {"id", "normalization"}:
            raise ConfigError(f"{where}: feature {name!r} is {settings!r}; give {{id, normalization}}")
        normalization = _number(
            settings.get("normalization", 1.0), f"normalization of feature {name!r}", where, low=None
        )
        features[str(name)] = Feature(settings["id"], normalization)
    for key in ("action_names", "max_action_args"):
        if not isinstance(content[key], (list, tuple)):
            raise ConfigError(f"{where}: {key} is {content[key]!r}; give a list")
    return EnvironmentDescription(
        obs_width=content["obs_width"],
        obs_height=content["obs_height"],
        num_tokens=content["num_tokens"],
        action_names=tuple(content["action_names"]),
        max_action_args=tuple(content["max_action_args"]),
        features=features,
        source=source,
    )


def _number(value: Any, key: str, where: str, low: float | None = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{where}: {key} is {value!r}; give a finite number")
    if low is not None and value < low:
        raise ConfigError(f"{where}: {key} is {value!r}; give a number >= {low:g}")
    return float(value)


def _count(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}: {key} is {value!r}; give a whole number >= 0")
    return value

"""What every policy is given and must offer: environment description, TensorDict keys and the abstract Policy.

Both implementations import this module and nothing else of each other's. It holds no behaviour under test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.errors import ConfigError

# TensorDict keys, spelled once.
ENV_OBS = "env_obs"
DONES = "dones"
TRUNCATEDS = "truncateds"
ENV_ID_START = "training_env_id_start"
MEMORY_H = "memory_h"
MEMORY_C = "memory_c"
BPTT = "bptt"
BATCH = "batch"
ACTIONS = "actions"
ACT_LOG_PROB = "act_log_prob"
FULL_LOG_PROBS = "full_log_probs"
VALUES = "values"  # inference
VALUE = "value"  # training
ENTROPY = "entropy"

PADDING_BYTE = 0xFF
UNKNOWN_FEATURE_ID = 255

#: A recurrent memory: per ``training_env_id_start`` the pair (h, c), each ``[layers, B, hidden]``, detached.
Memory = dict[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Feature:
    """One observation feature: the id its tokens carry and the value its numbers are divided by."""

    id: int
    normalization: float = 1.0


@dataclass(frozen=True)
class ObservationSpace:
    """Shape and dtype of one agent's observation: ``(M, 3)`` tokens of ``torch.uint8``."""

    shape: tuple[int, int]
    dtype: torch.dtype = torch.uint8


@dataclass(frozen=True)
class EnvironmentDescription:
    """Everything a policy may know about its environment.

    Args:
        obs_width: cells along x (the coordinate byte's high nibble), 1 to 16.
        obs_height: cells along y (the low nibble), 1 to 16.
        num_tokens: M, the tokens in a row, padding included.
        action_names: one name per action type, in the environment's order, without repetition.
        max_action_args: the largest legal argument of each type, inclusive, so type i has ``max_i + 1`` logits.
        features: name -> :class:`Feature`; ids are unique and in 0..254 (255 means unknown).
        source: the file the description was read from, for messages; empty when built in code.

    Raises:
        ConfigError: any of the above does not hold, or a normalisation is zero, negative or not finite.
    """

    obs_width: int
    obs_height: int
    num_tokens: int
    action_names: tuple[str, ...]
    max_action_args: tuple[int, ...]
    features: Mapping[str, Feature]
    source: str = ""

    def __post_init__(self) -> None:
        where = f"environment {self.source or '(built in code)'}"
        for key in ("obs_width", "obs_height"):
            value = getattr(self, key)
            if not isinstance(value, int) or not 1 <= value <= 16:
                raise ConfigError(f"{where}: {key} is {value!r}; give a whole number from 1 to 16 (a nibble holds 16)")
        if not isinstance(self.num_tokens, int) or self.num_tokens < 1:
            raise ConfigError(f"{where}: num_tokens is {self.num_tokens!r}; give a whole number of at least 1")
        if not self.action_names or len(set(self.action_names)) != len(self.action_names):
            raise ConfigError(f"{where}: action_names {self.action_names!r} must be non-empty and without repetition")
        if len(self.action_names) != len(self.max_action_args):
            raise ConfigError(
                f"{where}: {len(self.action_names)} action_names but {len(self.max_action_args)} max_action_args; "
                "give one maximum per action"
            )
        for name, largest in zip(self.action_names, self.max_action_args, strict=True):
            if not isinstance(largest, int) or largest < 0:
                raise ConfigError(f"{where}: max_action_args of {name!r} is {largest!r}; give a whole number >= 0")
        if not self.features:
            raise ConfigError(f"{where}: features is empty; give at least one feature with an id")
        seen: dict[int, str] = {}
        for name, feature in self.features.items():
            if not isinstance(feature.id, int) or not 0 <= feature.id < UNKNOWN_FEATURE_ID:
                raise ConfigError(f"{where}: feature {name!r} has id {feature.id!r}; ids are whole numbers in 0..254")
            if feature.id in seen:
                raise ConfigError(f"{where}: features {seen[feature.id]!r} and {name!r} share id {feature.id}")
            seen[feature.id] = name
            if not 0.0 < feature.normalization < float("inf"):
                raise ConfigError(
                    f"{where}: feature {name!r} has normalization {feature.normalization!r}; a value is divided by it, "
                    "so it must be positive and finite"
                )
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))

    @property
    def single_observation_space(self) -> ObservationSpace:
        """One agent's observation: ``[M, 3]`` uint8."""
        return ObservationSpace((self.num_tokens, 3))

    @property
    def num_layers(self) -> int:
        """Layers of a box observation: the largest feature id plus one (ids may be sparse)."""
        return max(feature.id for feature in self.features.values()) + 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "features": dict(self.features)}  # a mapping proxy neither pickles nor deep-copies

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        object.__setattr__(self, "features", MappingProxyType(dict(state["features"])))


@dataclass(frozen=True)
class SystemConfig:
    """Where and how a policy is built: seed of the initial parameters, device and floating dtype."""

    seed: int = 0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class AgentConfig:
    """One agent YAML, read. Unknown top-level keys are kept in ``extra`` and passed on; see ``load_agent_config``.

    ``components`` maps each component name to its raw mapping (``_target_``, ``sources``, ``nn_params``, ...), in file
    order. Each implementation validates it for itself.
    """

    components: Mapping[str, Mapping[str, Any]]
    agent_type: str | None = None
    clip_range: float = 0.0
    analyze_weights_interval: int = 300
    l2_init_weight_update_interval: int = 0
    observations: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class FieldSpec:
    """One field of the experience spec: shape behind the segment axes, and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Policy(nn.Module, ABC):
    """An actor-critic over TensorDicts with a recurrent memory; the contract is in ``parity/agents/README.md``.

    Attributes every policy has, read by the checks: ``clip_range``, ``analyze_weights_interval``,
    ``l2_init_weight_update_interval``, ``observations``, ``extra_config`` (unknown top-level keys), ``seed``,
    ``device``, ``dtype``.
    """

    clip_range: float
    analyze_weights_interval: int
    l2_init_weight_update_interval: int
    observations: Mapping[str, Any]
    extra_config: Mapping[str, Any]

    @abstractmethod
    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDictBase:
        """Act on ``td`` (no ``action``) or evaluate ``action [B, T, 2]`` on it (training)."""

    @abstractmethod
    def activate_actions(self, action_names: Sequence[str], max_action_args: Sequence[int]) -> None:
        """Adopt an action space; every full name keeps the embedding row it was first given."""

    @abstractmethod
    def activate_observations(self, features: Mapping[str, Feature]) -> None:
        """Adopt a feature table; later calls remap ids by name to the first call's."""

    @abstractmethod
    def initialize_to_environment(self, environment: EnvironmentDescription) -> None:
        """``activate_actions`` and ``activate_observations`` of one environment."""

    @abstractmethod
    def original_feature_mapping(self) -> dict[str, int]:
        """Return a copy of the stored name -> id mapping (empty before the first activation)."""

    @abstractmethod
    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Adopt a stored name -> id mapping, as from a checkpoint; the next activation remaps to it."""

    @abstractmethod
    def action_rows(self) -> dict[str, int]:
        """Return a copy of the mapping full action name -> embedding row, over all activations."""

    @abstractmethod
    def restore_action_rows(self, rows: Mapping[str, int]) -> None:
        """Adopt such a mapping, as from a checkpoint; the next activation continues from it.

        Raises:
            ActionError: the rows are not 0, 1, 2, ... without gaps, or more than the embedding table has.
        """

    @abstractmethod
    def convert_action_to_logit_index(self, action: Tensor) -> Tensor:
        """``[..., 2]`` integer (type, argument) -> ``[...]`` int64 logit index; illegal actions raise ActionError."""

    @abstractmethod
    def convert_logit_index_to_action(self, index: Tensor) -> Tensor:
        """``[...]`` integer logit index -> ``[..., 2]`` int32 (type, argument); illegal ones raise ActionError."""

    @abstractmethod
    def reset_memory(self) -> None:
        """Forget every stored state."""

    @abstractmethod
    def reset_env_memory(self, env_id: int) -> None:
        """Forget the state stored under one ``training_env_id_start``; unknown ids are fine."""

    @abstractmethod
    def get_memory(self) -> Memory:
        """Return copies of all stored states."""

    @abstractmethod
    def set_memory(self, memory: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Replace all stored states by copies; MemoryStateError when a shape does not fit the network."""

    @abstractmethod
    def clip_weights(self) -> None:
        """Clamp each Linear/Conv weight to its bound; nothing when ``clip_range`` is 0."""

    @abstractmethod
    def l2_init_loss(self) -> Tensor:
        """Scalar: sum over Linear/Conv layers of ``l2_init_scale * sum((W - W_init)^2)``, differentiable."""

    @abstractmethod
    def update_l2_init_weight_copy(self) -> None:
        """Make the current weights the new W_init."""

    @abstractmethod
    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, float | str]]:
        """One mapping per layer marked ``analyze_weights``, in component order."""

    @abstractmethod
    def get_agent_experience_spec(self) -> dict[str, FieldSpec]:
        """What the experience buffer must keep for this policy."""

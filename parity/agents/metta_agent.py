"""MettaAgent, the facade over either implementation, and its distributed form.

It only dispatches: what an agent does is its policy's own, and this module computes none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from parity.agents.component.policy import ComponentPolicy
from parity.agents.component.settings import did_you_mean
from parity.agents.errors import ConfigError
from parity.agents.interface import (
    AgentConfig,
    EnvironmentDescription,
    Feature,
    FieldSpec,
    Memory,
    Policy,
    SystemConfig,
)

logger = logging.getLogger(__name__)

#: ``agent_type`` -> module and class of the PyTorch agent, imported when it is asked for.
AGENT_TYPES: dict[str, tuple[str, str]] = {
    "example": ("parity.agents.pytorch.example", "Example"),
    "fast": ("parity.agents.pytorch.fast", "Fast"),
    "latent_attn_tiny": ("parity.agents.pytorch.latent_attn", "LatentAttnTiny"),
    "latent_attn_small": ("parity.agents.pytorch.latent_attn", "LatentAttnSmall"),
    "latent_attn_med": ("parity.agents.pytorch.latent_attn", "LatentAttnMed"),
}

#: What is logged of a built policy, in this order.
LOGGED = (
    "clip_range",
    "analyze_weights_interval",
    "l2_init_weight_update_interval",
    "observations",
    "extra_config",
    "seed",
    "device",
    "dtype",
)


def _of_policy(name: str) -> Any:
    """Return a property that reads and writes the policy's attribute, so that it has one owner."""

    def read(agent: MettaAgent) -> Any:
        return getattr(agent.policy, name)

    def write(agent: MettaAgent, value: Any) -> None:
        setattr(agent.policy, name, value)

    return property(read, write, doc=f"The policy's ``{name}``.")


class MettaAgent(Policy):
    """An agent as its config describes it: the candidate that ``agent_type`` names, or else the reference.

    Args:
        environment: what the policy is built for; ``initialize_to_environment`` is still to be called.
        system: seed, device and dtype.
        config: the agent's YAML, read; every key of it reaches the policy.

    Attributes:
        policy: the implementation; everything below is forwarded to it.

    Raises:
        ConfigError: ``agent_type`` is unknown, or the policy refuses a key.
    """

    clip_range = _of_policy("clip_range")
    analyze_weights_interval = _of_policy("analyze_weights_interval")
    l2_init_weight_update_interval = _of_policy("l2_init_weight_update_interval")
    observations = _of_policy("observations")
    extra_config = _of_policy("extra_config")
    seed = _of_policy("seed")
    device = _of_policy("device")
    dtype = _of_policy("dtype")

    def __init__(self, environment: EnvironmentDescription, system: SystemConfig, config: AgentConfig) -> None:
        super().__init__()
        self.config = config
        build = ComponentPolicy if config.agent_type is None else _agent_class(config.agent_type, config.source)
        self.policy: Policy = build(
            environment,
            components=config.components,
            clip_range=config.clip_range,
            analyze_weights_interval=config.analyze_weights_interval,
            l2_init_weight_update_interval=config.l2_init_weight_update_interval,
            observations=config.observations,
            extra_config=config.extra,
            source=config.source,
            seed=system.seed,
            device=system.device,
            dtype=system.dtype,
        )
        logger.info("%s", self.describe())

    def describe(self) -> str:
        """Return one line: the implementation, its file, and the configuration as the built policy holds it."""
        held = ", ".join(f"{key}={getattr(self.policy, key)}" for key in LOGGED)
        count = sum(parameter.numel() for parameter in self.policy.parameters())
        return (
            f"agent {type(self.policy).__name__} (agent_type {self.config.agent_type!r}) from "
            f"{self.config.source or 'code'}: {held}, parameters={count}"
        )

    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDictBase:
        """Act on ``td`` (no ``action``) or evaluate ``action [B, T, 2]`` on it (training)."""
        return self.policy(td, state, action)

    def activate_actions(self, action_names: Sequence[str], max_action_args: Sequence[int]) -> None:
        """Forward to the policy."""
        self.policy.activate_actions(action_names, max_action_args)

    def activate_observations(self, features: Mapping[str, Feature]) -> None:
        """Forward to the policy."""
        self.policy.activate_observations(features)

    def initialize_to_environment(self, environment: EnvironmentDescription) -> None:
        """Forward to the policy."""
        self.policy.initialize_to_environment(environment)

    def original_feature_mapping(self) -> dict[str, int]:
        """Forward to the policy."""
        return self.policy.original_feature_mapping()

    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Forward to the policy."""
        self.policy.restore_original_feature_mapping(mapping)

    def action_rows(self) -> dict[str, int]:
        """Forward to the policy."""
        return self.policy.action_rows()

    def restore_action_rows(self, rows: Mapping[str, int]) -> None:
        """Forward to the policy."""
        self.policy.restore_action_rows(rows)

    def convert_action_to_logit_index(self, action: Tensor) -> Tensor:
        """Forward to the policy."""
        return self.policy.convert_action_to_logit_index(action)

    def convert_logit_index_to_action(self, index: Tensor) -> Tensor:
        """Forward to the policy."""
        return self.policy.convert_logit_index_to_action(index)

    def reset_memory(self) -> None:
        """Forward to the policy."""
        self.policy.reset_memory()

    def reset_env_memory(self, env_id: int) -> None:
        """Forward to the policy."""
        self.policy.reset_env_memory(env_id)

    def get_memory(self) -> Memory:
        """Forward to the policy."""
        return self.policy.get_memory()

    def set_memory(self, memory: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Forward to the policy."""
        self.policy.set_memory(memory)

    def clip_weights(self) -> None:
        """Forward to the policy, which alone knows its bounds."""
        self.policy.clip_weights()

    def l2_init_loss(self) -> Tensor:
        """Forward to the policy."""
        return self.policy.l2_init_loss()

    def update_l2_init_weight_copy(self) -> None:
        """Forward to the policy."""
        self.policy.update_l2_init_weight_copy()

    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, float | str]]:
        """Forward to the policy."""
        return self.policy.compute_weight_metrics(delta)

    def get_agent_experience_spec(self) -> dict[str, FieldSpec]:
        """Forward to the policy."""
        return self.policy.get_agent_experience_spec()


class DistributedMettaAgent(DistributedDataParallel):
    """A MettaAgent in DistributedDataParallel; attributes that this does not have are the agent's.

    On CUDA, batch normalisation is synchronised and the agent's own device is named; on the CPU neither exists.
    The process group must be initialised.
    """

    def __init__(self, agent: MettaAgent) -> None:
        device = torch.device(agent.device)
        if device.type == "cuda":
            converted = nn.SyncBatchNorm.convert_sync_batchnorm(agent)
            super().__init__(converted, device_ids=[device], output_device=device)
        else:
            super().__init__(agent)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":  # not there yet: asking the module for it would never end
                raise
            return getattr(self.module, name)


def _agent_class(agent_type: str, source: str) -> Callable[..., Policy]:
    if agent_type not in AGENT_TYPES:
        raise ConfigError(
            f"{source or 'agent config'}: unknown agent_type {agent_type!r}; {did_you_mean(agent_type, AGENT_TYPES)} "
            "(leave it out for the reference)"
        )
    module, name = AGENT_TYPES[agent_type]
    return getattr(import_module(module), name)

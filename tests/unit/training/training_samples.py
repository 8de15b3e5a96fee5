"""A tiny environment and small agents of both kinds for the trainer's tests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from parity.agents.config import load_agent_config
from parity.agents.interface import AgentConfig, EnvironmentDescription, Feature, SystemConfig
from parity.agents.metta_agent import MettaAgent
from parity.environments.interface import Step
from parity.resources import fixture
from parity.training.config import TrainerConfig, trainer_config

DESCRIPTION = EnvironmentDescription(
    obs_width=7,
    obs_height=6,
    num_tokens=5,
    action_names=("attack", "move", "noop"),
    max_action_args=(2, 0, 1),
    features={"type": Feature(0, 2.0), "hp": Feature(3, 30.0)},
)

_SIZES = {
    "cnn1": {"out_channels": 4, "kernel_size": 3, "stride": 2},
    "cnn2": {"out_channels": 5, "kernel_size": 2, "stride": 1},
    "fc1": {"out_features": 6},
    "encoded_obs": {"out_features": 7},
    "_core_": {"num_layers": 2, "hidden_size": 8},
    "critic_1": {"out_features": 9},
    "actor_1": {"out_features": 10},
    "_action_embeds_": {"num_embeddings": 12, "embedding_dim": 3},
}

#: Both sides of ``fast``, as ``agent_type`` names them.
SIDES = {"reference": None, "candidate": "fast"}


class Counting:
    """Agents that count: what is seen depends on the agent, its step and its last action.

    Episodes of agent i last 3 + i % 3 steps, and end terminated and truncated by turns. Agents are numbered from
    ``first``, so that two environments can hold what one holds together.
    """

    description = DESCRIPTION

    def __init__(self, num_agents: int, first: int = 0) -> None:
        self.num_agents = num_agents
        self._agent = torch.arange(first, first + num_agents)
        self._steps, self._last = torch.zeros(num_agents, dtype=torch.int64), torch.zeros(num_agents, dtype=torch.int64)

    def reset(self, seed: int) -> Step:
        self._steps.zero_()
        self._last.zero_()
        return self._see(torch.zeros(self.num_agents))

    def step(self, actions: Tensor) -> Step:
        self._steps = self._steps + 1
        self._last = actions[:, 0].long() * 3 + actions[:, 1]
        return self._see((self._last == (self._agent + self._steps) % 4).float())

    def state_dict(self) -> dict[str, Tensor]:
        return {"steps": self._steps.clone(), "last": self._last.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._steps, self._last = state["steps"].clone(), state["last"].clone()

    def _see(self, rewards: Tensor) -> Step:
        length = 3 + self._agent % 3
        opens = (self._steps > 0) & (self._steps % length == 0)
        terminated = self._steps // length % 2 == 1
        token = torch.arange(self.description.num_tokens)
        mixed = (self._agent * 31 + self._steps * 17 + self._last * 7)[:, None] + token * 13
        place = (mixed % 7) * 16 + mixed // 7 % 6
        ids = self.description.features
        feature = torch.where(mixed % 2 == 0, ids["type"].id, ids["hp"].id)
        observations = torch.stack([place, feature, mixed * 29 % 256], dim=-1).to(torch.uint8)
        return Step(observations, rewards, opens & terminated, opens & ~terminated)


def agent_config(side: str, **changes: Any) -> AgentConfig:
    config = load_agent_config(fixture("agents", "fast.yaml"))
    components = copy.deepcopy(dict(config.components))
    for name, sizes in _SIZES.items():
        components[name] = {**components[name], "nn_params": dict(sizes)}
    components["_core_"] = {key: value for key, value in components["_core_"].items() if key != "output_size"}
    changes = {"clip_range": 0.9, "analyze_weights_interval": 2, **changes}
    return replace(config, components=components, agent_type=SIDES[side], **changes)


def agent(
    side: str, dtype: torch.dtype = torch.float64, seed: int = 3, *, initialized: bool = True, **changes: Any
) -> MettaAgent:
    built = MettaAgent(DESCRIPTION, SystemConfig(seed=seed, dtype=dtype), agent_config(side, **changes))
    if initialized:
        built.initialize_to_environment(DESCRIPTION)
    return built


def stressed(side: str, dtype: torch.dtype = torch.float64) -> MettaAgent:
    """An agent with weights large enough for its memory and resets to show in its outputs."""
    built = agent(side, dtype, clip_range=0.0)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return built


def parameters_of(policy: nn.Module) -> dict[str, list[float]]:
    return {name: value.detach().flatten().tolist() for name, value in policy.named_parameters()}


def config(**changes: Any) -> TrainerConfig:
    """4 agents, rollouts of two segments of 6 steps, two minibatches of 4 segments."""
    sizes = {"total_updates": 4, "num_agents": 4, "batch_size": 48, "bptt_horizon": 6, "minibatch_size": 24}
    return trainer_config({**sizes, **changes})

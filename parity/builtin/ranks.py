"""Training one policy as several ranks, and as one process that has all their agents."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription, Policy
from parity.agents.metta_agent import MettaAgent
from parity.environments.interface import Step, VectorEnvironment
from parity.environments.token_grid import TokenGrid
from parity.training.config import TrainerConfig
from parity.training.distributed import World
from parity.training.random_stream import derived_seed
from parity.training.trainer import Trainer


def together(
    policy: nn.Module, description: EnvironmentDescription, config: TrainerConfig, ranks: int, replay: Any
) -> Trainer:
    """A trainer of all agents, which live in as many environments as there would be ranks."""
    environment = cast(VectorEnvironment, _Environments(description, config, ranks))
    return Trainer(cast(Policy, policy), environment, config, replay=replay)


def share(
    policy: nn.Module,
    description: EnvironmentDescription,
    config: TrainerConfig,
    ranks: int,
    rank: int,
    replay: Any,
) -> Trainer:
    """A trainer of one rank's agents; the process group is initialised. ``config`` has the sizes of all ranks."""
    sizes = {name: getattr(config, name) // ranks for name in ("num_agents", "batch_size", "minibatch_size")}
    world, own = World(rank, ranks), dataclasses.replace(config, **sizes)
    environment = _environment(description, own.num_agents)
    return Trainer(world.wrap(cast(MettaAgent, policy)), environment, own, replay=replay, world=world)


def _environment(description: EnvironmentDescription, agents: int) -> TokenGrid:
    return TokenGrid(description, num_agents=agents, room=3, episode_length=5, goal=1)


class _Environments:
    """The ranks' environments side by side, each seeded as the trainer of its rank would."""

    def __init__(self, description: EnvironmentDescription, config: TrainerConfig, ranks: int) -> None:
        self.description, self.num_agents = description, config.num_agents
        self._seed = config.seed
        self._parts = [_environment(description, config.num_agents // ranks) for _ in range(ranks)]

    def reset(self, seed: int) -> Step:
        """Begin again; a seed of each rank's own stands in for ``seed``, which is rank 0's."""
        seeds = [derived_seed(self._seed, f"environment of rank {rank}") for rank in range(len(self._parts))]
        return _joined([part.reset(own) for part, own in zip(self._parts, seeds, strict=True)])

    def step(self, actions: Tensor) -> Step:
        """Act in each environment with its agents' actions."""
        shares = actions.chunk(len(self._parts))
        return _joined([part.step(own) for part, own in zip(self._parts, shares, strict=True)])


def _joined(steps: list[Step]) -> Step:
    names = [item.name for item in dataclasses.fields(Step)]
    return Step(**{name: torch.cat([getattr(step, name) for step in steps]) for name in names})

"""The shipped trainer in a small grid world, as the training checks want it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription, Policy
from parity.environments.token_grid import TokenGrid
from parity.pairs.training import Settings, Watcher
from parity.training.config import trainer_config
from parity.training.observer import Replay, TrainingObserver
from parity.training.optimizers import Optimizer
from parity.training.trainer import Trainer


class GridTraining:
    """``parity.training`` on ``TokenGrid``, whose episodes are cut short so that a few steps hold several."""

    def start(
        self,
        policy: nn.Module,
        environment: EnvironmentDescription,
        settings: Settings,
        *,
        watcher: Watcher | None = None,
        replay: Any = None,
    ) -> Trainer:
        """See ``parity.pairs.training.Training``."""
        config = trainer_config(settings)
        world = TokenGrid(environment, num_agents=config.num_agents, room=3, episode_length=5, goal=1)
        observer = cast(TrainingObserver, watcher) if watcher is not None else None
        return Trainer(cast(Policy, policy), world, config, observer=observer, replay=replay)

    def replay(self, actions: list[Tensor], indices: list[Tensor]) -> Replay:
        """See ``parity.pairs.training.Training``."""
        return Replay(actions, indices)

    def optimizer(self, policy: nn.Module, settings: Settings) -> Optimizer:
        """See ``parity.pairs.training.Training``."""
        return Optimizer(cast(Policy, policy), trainer_config(settings).optimizer)

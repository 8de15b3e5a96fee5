"""The shipped trainer in a small grid world, as the training checks want it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription, Policy
from parity.builtin.ranks import share, together
from parity.environments.interface import VectorEnvironment
from parity.environments.registry import make_environment
from parity.environments.token_grid import TokenGrid
from parity.pairs.training import METRICS, Settings, Watcher
from parity.training.checkpoint import CheckpointManager, initialize_policy_for_environment, load_policy
from parity.training.config import trainer_config
from parity.training.metrics import JsonLines, Trace
from parity.training.observer import Replay, TrainingObserver
from parity.training.optimizers import Optimizer
from parity.training.run import train
from parity.training.trainer import Trainer

#: Settings that `fast` learns with in ``token_grid``.
_LEARNING = {
    "total_updates": 75,
    "num_agents": 64,
    "batch_size": 1024,
    "bptt_horizon": 16,
    "minibatch_size": 128,
    "update_epochs": 3,
    "checkpoint_interval": 10,
    "optimizer": {"learning_rate": 7e-4, "beta2": 0.99, "eps": 1e-8},
    "ppo": {
        "gamma": 0.9,
        "gae_lambda": 0.9,
        "clip_coef": 0.2,
        "clip_vloss": False,
        "vf_coef": 0.8,
        "ent_coef": 0.02,
        "max_grad_norm": 1.0,
    },
}


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

    def save(self, trainer: Trainer, folder: Path) -> Path:
        """See ``parity.pairs.training.Training``."""
        return CheckpointManager(folder).save(trainer)

    def resume(self, trainer: Trainer, path: Path) -> bool:
        """See ``parity.pairs.training.Training``."""
        if path.is_dir():
            return CheckpointManager(path).resume(trainer) is not None
        return CheckpointManager(path.parent).resume(trainer, path) is not None

    def load(self, policy: nn.Module, path: Path, environment: EnvironmentDescription | None = None) -> None:
        """See ``parity.pairs.training.Training``."""
        record = load_policy(path, cast(Policy, policy))
        if environment is not None:
            initialize_policy_for_environment(record, environment)

    def defaults(self) -> dict[str, Any]:
        """See ``parity.pairs.training.Training``."""
        return asdict(trainer_config(_LEARNING))

    def world(self, name: str, *, agents: int) -> VectorEnvironment:
        """See ``parity.pairs.training.Training``."""
        return make_environment(name, num_agents=agents)

    def normalised_return(self, world: VectorEnvironment, reward: float) -> float | None:
        """See ``parity.pairs.training.Training``."""
        return world.baselines.normalised_return(reward) if isinstance(world, TokenGrid) else None

    def trainer(self, policy: nn.Module, world: Any, settings: Settings) -> Trainer:
        """See ``parity.pairs.training.Training``."""
        return Trainer(cast(Policy, policy), world, trainer_config(settings))

    def run(
        self,
        policy: nn.Module,
        world: VectorEnvironment,
        settings: Settings,
        tell: Callable[[Mapping[str, Any]], None],
        *,
        folder: Path | None = None,
        trace: bool = False,
    ) -> None:
        """See ``parity.pairs.training.Training``."""
        config, agent = trainer_config(settings), cast(Policy, policy)
        if folder is None:
            for metrics in Trainer(agent, world, config).run():
                tell(metrics)
            return
        with ExitStack() as files:
            observer = None
            if trace:
                observer = Trace(files.enter_context(JsonLines(folder / "trace.jsonl")), agent)
            trainer = Trainer(agent, world, config, observer=observer)
            figures = files.enter_context(_Figures(folder / METRICS, tell))
            train(trainer, figures=figures, checkpoints=CheckpointManager(folder / "checkpoints"))

    def start_ranks(
        self,
        policy: nn.Module,
        environment: EnvironmentDescription,
        settings: Settings,
        *,
        ranks: int,
        rank: int | None,
        replay: Any,
    ) -> Trainer:
        """See ``parity.pairs.training.Training``."""
        config = trainer_config(settings)
        if rank is None:
            return together(policy, environment, config, ranks, replay)
        return share(policy, environment, config, ranks, rank, replay)


class _Figures(JsonLines):
    """JSON lines that somebody else is told of too."""

    def __init__(self, path: Path, tell: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__(path)
        self._tell = tell

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        super().write(record)
        self._tell(record)

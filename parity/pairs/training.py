"""What training checks need of a training loop. The loop is the pair's: the harness trains nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription

#: Name of the file of metrics, a JSON object per update; of two lines for one update the later counts.
METRICS = "metrics.jsonl"

Settings = Mapping[str, Any]
"""What decides a training beside policy and environment, with the keys of the trainer's configuration; JSON-able."""


class Watcher(Protocol):
    """What a trainer calls at each point of an update; counts begin at 0. Nothing handed over may be changed."""

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """The policy acted: ``td`` is what is stored of it."""
        ...

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """Advantages ``[segments, T]`` and the segments' sampling probabilities ``[segments]``."""
        ...

    def on_minibatch(self, update: int, minibatch: int, data: Any, losses: Any) -> None:
        """A minibatch (``data.indices``) was evaluated; ``losses.detached()`` maps names to scalars.

        ``losses.total`` is the scalar that is differentiated next. ``data`` has the policy's entries as ``inputs``,
        and ``actions``, ``act_log_prob``, ``values``, ``rewards``, ``dones``, ``truncateds``, ``advantages`` ``[n, T]``
        and ``weights`` ``[n, 1]``.
        """
        ...

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Gradients are there, their norm not clipped yet."""
        ...

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """The optimizer stepped; weights are not clipped yet."""
        ...

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Weights are final for this step."""
        ...

    def on_update(self, update: int, metrics: Mapping[str, Any]) -> None:
        """The update is over."""
        ...


class World(Protocol):
    """An environment to train in."""

    @property
    def description(self) -> EnvironmentDescription:
        """What a policy may know of it."""
        ...


class Trainer(Protocol):
    """A training that is under way.

    ``environment.step`` and ``optimizer.step`` are looked up at every call, as the policy's methods are.
    ``experience`` has ``buffer`` (key -> tensor), ``generator`` (that minibatches are drawn with), ``ready``,
    ``reset()``, ``store(td, agents)`` and ``draw(probabilities, count)``.
    """

    updates: int
    agent_steps: int
    environment: Any
    experience: Any
    optimizer: Any

    def rollout(self) -> None:
        """Gather experience."""
        ...

    def run(self, updates: int | None = None) -> Iterable[Mapping[str, Any]]:
        """Roll out and update that often, or up to ``total_updates``; gives the metrics after each."""
        ...

    def update(self) -> Mapping[str, Any]:
        """Learn from it; return the update's metrics."""
        ...


class Training(Protocol):
    """A training loop, its optimizers and its checkpoints."""

    def start(
        self,
        policy: nn.Module,
        environment: EnvironmentDescription,
        settings: Settings,
        *,
        watcher: Watcher | None = None,
        replay: Any = None,
    ) -> Trainer:
        """A trainer of ``policy`` in a new world that fits the description."""
        ...

    def replay(self, actions: list[Tensor], indices: list[Tensor]) -> Any:
        """The random choices of another run, as ``start`` takes them: actions per call, indices per minibatch."""
        ...

    def optimizer(self, policy: nn.Module, settings: Settings) -> Any:
        """The optimizer alone: ``zero_grad``, ``step``, ``state_dict``, ``load_state_dict``."""
        ...

    def save(self, trainer: Any, folder: Path) -> Path:
        """Write a checkpoint of a trainer between two updates; return its file."""
        ...

    def resume(self, trainer: Any, path: Path) -> bool:
        """Bring a trainer that did nothing yet to where a checkpoint was taken.

        What is no such checkpoint is refused by an error that names the file; nothing is changed then.

        Args:
            trainer: of a run with the same settings.
            path: a checkpoint's file, or a folder, of whose checkpoints the latest is taken.

        Returns:
            Whether there was one; a folder may hold none.
        """
        ...

    def load(self, policy: nn.Module, path: Path, environment: EnvironmentDescription | None = None) -> None:
        """Load a checkpoint's policy, and initialise it to an environment if given; refuses as ``resume`` does.

        Each action keeps its embedding row, each feature its id.
        """
        ...

    def defaults(self) -> dict[str, Any]:
        """Every setting there is, sections as mappings, with values that policies learn with in ``token_grid``."""
        ...

    def world(self, name: str, *, agents: int) -> World:
        """A new environment for so many agents; an unknown name is refused by an error that gives the nearest."""
        ...

    def normalised_return(self, world: Any, reward: float) -> float | None:
        """Where a mean reward per step stands between chance (0) and a scripted optimum (1); None if nobody knows."""
        ...

    def trainer(self, policy: nn.Module, world: Any, settings: Settings) -> Trainer:
        """A trainer of a policy, initialised to the world's description, in a new world from ``world``."""
        ...

    def run(
        self,
        policy: nn.Module,
        world: Any,
        settings: Settings,
        tell: Callable[[Mapping[str, Any]], None],
        *,
        folder: Path | None = None,
        trace: bool = False,
    ) -> None:
        """Train a policy in a new world to ``total_updates``.

        Args:
            policy: fresh, initialised to the world's description.
            world: from ``world``.
            settings: as from ``defaults``.
            tell: is given the metrics of each update.
            folder: gets them as JSON lines (``METRICS``), and checkpoints; a run found there is gone on with.
            trace: whether the folder also gets a line per policy call (``trace.jsonl``).
        """
        ...

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
        """A trainer of one rank's share of a training, or of all of it in one process.

        Args:
            policy: see ``start``.
            environment: see ``start``; every rank has worlds of its own.
            settings: of all ranks together; ``num_agents``, ``batch_size`` and ``minibatch_size`` divide by ``ranks``.
            ranks: how many there are.
            rank: which; torch's process group is initialised. None trains the agents of all, rank by rank in one batch.
            replay: the random choices of all, or of this rank.
        """
        ...

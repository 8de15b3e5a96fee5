"""What training checks need of a training loop. The loop is the pair's: the harness trains nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription

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
        """A minibatch (``data.indices``) was evaluated; ``losses.detached()`` maps names to scalars."""
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


class Trainer(Protocol):
    """A training that is under way."""

    updates: int
    environment: Any
    experience: Any
    optimizer: Any

    def rollout(self) -> None:
        """Gather experience."""
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

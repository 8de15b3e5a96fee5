"""Looking into a run, and repeating its random choices in another."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.errors import AgentError
from parity.agents.interface import ACTIONS
from parity.training.experience import Minibatch
from parity.training.losses import Losses


class TrainingObserver:
    """Called by the trainer at each point of an update; does nothing unless overridden.

    ``update`` counts from 0 over the run, ``minibatch`` from 0 over the update (all epochs). What is handed over is the
    trainer's own: clone what is to be kept, change nothing, and draw nothing from torch's global generators.
    """

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """A slice of agents acted: ``td [n]`` is what is stored. ``step`` counts the policy's calls in the rollout."""

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """Advantages ``[segments, T]`` of the whole experience, and the segments' sampling probabilities."""

    def on_minibatch(self, update: int, minibatch: int, data: Minibatch, losses: Losses) -> None:
        """A minibatch was drawn (``data.indices``) and evaluated; nothing is differentiated yet."""

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Gradients hold what ``backward`` added, their norm not clipped yet."""

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """The optimizer stepped: gradients are clipped, weights changed but not clipped. Once per optimizer step."""

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """The policy clipped its weights; they are final for this step."""

    def on_update(self, update: int, metrics: dict[str, object]) -> None:
        """The update is over."""


class ReplayError(AgentError, ValueError):
    """A run asks for more than was recorded, or for another shape."""


class Replay:
    """Random choices of another run, handed out in order.

    Args:
        actions: per policy call in rollouts, ``[n, 2]`` integers.
        indices: per minibatch, int64 ``[n]``.
    """

    def __init__(self, actions: Iterable[Tensor], indices: Iterable[Tensor]) -> None:
        self._actions, self._indices = iter(actions), iter(indices)

    def next_actions(self, like: Tensor) -> Tensor:
        """The next actions, in the shape, dtype and place of ``like``."""
        return self._next(self._actions, "actions", like.shape).to(like)

    def next_indices(self, count: int) -> Tensor:
        """The indices of the next minibatch, ``[count]``."""
        return self._next(self._indices, "minibatch indices", torch.Size([count]))

    @staticmethod
    def _next(source: Iterable[Tensor], what: str, shape: torch.Size) -> Tensor:
        found = next(iter(source), None)
        if found is None or found.shape != shape:
            given = "ended" if found is None else f"has shape {list(found.shape)}"
            raise ReplayError(
                f"the replay of {what} {given} where the run needs shape {list(shape)}; replay a run of the same "
                "configuration and at least as many updates"
            )
        return found


class Recorder(TrainingObserver):
    """Keeps a run's random choices, for a ``Replay``."""

    def __init__(self) -> None:
        self.actions: list[Tensor] = []
        self.indices: list[Tensor] = []

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """Keep the actions."""
        self.actions.append(td[ACTIONS].detach().cpu().clone())

    def on_minibatch(self, update: int, minibatch: int, data: Minibatch, losses: Losses) -> None:
        """Keep the indices."""
        self.indices.append(data.indices.detach().cpu().clone())

    def replay(self) -> Replay:
        """A replay of what was kept so far, from its start."""
        return Replay(list(self.actions), list(self.indices))

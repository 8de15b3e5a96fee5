"""What a trainer is given to act in: many agents stepped at once, whose episodes restart by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from parity.agents.interface import EnvironmentDescription


@dataclass(frozen=True, eq=False)
class Step:
    """What the agents see, on the CPU; row i is agent i. The environment never writes to these tensors afterwards.

    Args:
        observations: ``[B, M, 3]`` uint8 tokens.
        rewards: ``[B]`` float32: of the action before this observation, be it the last of an episode; 0 at reset.
        dones: ``[B]`` bool: this observation opens an episode because the one before it terminated.
        truncateds: ``[B]`` bool: likewise, because the one before it was cut off. At reset neither is set.
    """

    observations: Tensor
    rewards: Tensor
    dones: Tensor
    truncateds: Tensor


class VectorEnvironment(Protocol):
    """B agents in one or several worlds. A new environment stands as after ``reset(0)``.

    All randomness comes from the seed, none from a global generator.
    """

    @property
    def description(self) -> EnvironmentDescription:
        """What a policy may know of the environment."""
        ...

    @property
    def num_agents(self) -> int:
        """B, the rows of every tensor."""
        ...

    def reset(self, seed: int) -> Step:
        """Begin again from ``seed`` (0 to 2^31 - 1); everything that follows depends on it and the actions alone.

        Raises:
            ConfigError: the seed is out of range.
        """
        ...

    def step(self, actions: Tensor) -> Step:
        """Act: ``[B, 2]`` integer (type, argument), on any device.

        The last observation of an episode is not shown: in its place comes the first of the next episode, flagged.

        Raises:
            ActionError: an action is illegal, or the tensor has another shape or dtype.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of everything that decides the future, in plain tensors that safetensors can store."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on, bit for bit, from where ``state`` was taken.

        Raises:
            ConfigError: ``state`` is of another kind of environment, or of one with other settings.
        """
        ...

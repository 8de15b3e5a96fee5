"""A recording as an environment that takes actions and is not moved by them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.environments.inputs import SETTINGS, fitting_state, legal_actions, seed_number, whole_number
from parity.environments.interface import Step
from parity.environments.recorded import Recording


class ReplayEnvironment:
    """Recorded rollouts, round and round: observations, rewards and flags as recorded, whatever the actions.

    Agent i replays the recorded agent i % N, from a step drawn from the seed. After the last recorded step comes the
    first, flagged as truncated: the episode before it was cut off by the end of the recording.

    Args:
        recording: what to replay.
        num_agents: B; as many as were recorded when left out.

    Raises:
        ConfigError: ``num_agents`` is below 1.
    """

    def __init__(self, recording: Recording, *, num_agents: int | None = None) -> None:
        self.description = recording.environment
        self._where = f"ReplayEnvironment of recording {recording.name!r}"
        wanted = recording.agents if num_agents is None else num_agents
        self.num_agents = whole_number(self._where, "num_agents", wanted, 1, 1_000_000)
        self._recording = recording
        self._cut = recording.truncateds.clone()
        self._cut[0] |= ~recording.dones[0]
        self._largest = torch.tensor(self.description.max_action_args)
        self._agent = torch.arange(self.num_agents) % recording.agents
        self.reset(0)

    def reset(self, seed: int) -> Step:
        """See ``VectorEnvironment``."""
        random = torch.Generator().manual_seed(seed_number(self._where, seed))
        self._position = torch.randint(self._recording.steps, (self.num_agents,), generator=random)
        nobody = torch.zeros(self.num_agents, dtype=torch.bool)
        observations = self._recording.env_obs[self._position, self._agent]
        return Step(observations, nobody.float(), nobody.clone(), nobody.clone())

    def step(self, actions: Tensor) -> Step:
        """See ``VectorEnvironment``; legal actions change nothing."""
        legal_actions(actions, self.num_agents, self.description.action_names, self._largest)
        self._position = (self._position + 1) % self._recording.steps
        now = (self._position, self._agent)
        recorded = self._recording
        return Step(recorded.env_obs[now], recorded.rewards[now], recorded.dones[now], self._cut[now])

    def state_dict(self) -> dict[str, Tensor]:
        """See ``VectorEnvironment``."""
        recorded = torch.tensor((self._recording.steps, self._recording.agents))
        return {"position": self._position.clone(), SETTINGS: recorded}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``VectorEnvironment``."""
        self._position = fitting_state(self._where, state, self.state_dict())["position"]

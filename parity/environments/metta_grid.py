"""The released MettaGrid as an environment to train in; importing this module does not need ``mettagrid``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.agents.errors import ConfigError
from parity.agents.interface import EnvironmentDescription, Feature
from parity.environments.inputs import SETTINGS, fitting_state, legal_actions, seed_number, whole_number
from parity.environments.interface import Step

_BORDER = 2  # cells of wall along each side of the map
_INVENTORY = {"ore_red": 3, "battery_blue": 50, "heart": 200, "laser": 7}


class MettaGridEnvironment:
    """Agents together on one map of MettaGrid's arena, a new random map for each episode.

    A successful move earns 0.1 and nothing else does. MettaGrid ends an episode for all agents at once, after
    ``episode_length`` actions, by truncation. Its coordinate byte holds the row in the high nibble, which policies read
    as x: on the square window the picture is merely transposed.

    The simulator's state cannot be saved: a stored state holds the seed, the episode's number and its actions so far,
    and loading it replays them.

    Args:
        num_agents: B.
        side: cells along each side of the map, its border of two included.
        walls: wall cells at random places.
        episode_length: actions after which an episode is truncated.

    Raises:
        ConfigError: ``mettagrid`` cannot be used here, or a number is out of range.
    """

    def __init__(self, *, num_agents: int = 8, side: int = 25, walls: int = 60, episode_length: int = 128) -> None:
        where = self._where = "MettaGridEnvironment"
        try:
            self._mettagrid = import_mettagrid()
        except ImportError as error:
            raise ConfigError(
                f"{where} needs the package mettagrid, which cannot be used here ({error}); on Python 3.11 or 3.12 "
                "run: pip install 'parity[mettagrid]'"
            ) from error
        self._side = whole_number(where, "side", side, 2 * _BORDER + 2, 200)
        cells = (side - 2 * _BORDER) ** 2
        self.num_agents = whole_number(where, "num_agents", num_agents, 1, cells, "each needs a cell of the map")
        self._walls = whole_number(where, "walls", walls, 0, cells - num_agents, "in the cells that agents leave free")
        self._length = whole_number(where, "episode_length", episode_length, 1, 100_000)
        self._begin(0, 0)
        interface = self._mettagrid.PolicyEnvInterface.from_mg_cfg(self._arena(0))
        self.description = describe(interface, source="mettagrid")
        self._largest = torch.tensor(self.description.max_action_args)

    def reset(self, seed: int) -> Step:
        """See ``VectorEnvironment``."""
        observations = self._begin(seed_number(self._where, seed), 0)
        nobody = torch.zeros(self.num_agents, dtype=torch.bool)
        return Step(observations, nobody.float(), nobody.clone(), nobody.clone())

    def step(self, actions: Tensor) -> Step:
        """See ``VectorEnvironment``."""
        actions = legal_actions(actions, self.num_agents, self.description.action_names, self._largest)
        observed, rewards, dones, truncateds = self._act(actions[:, 0])
        observations = _stack(observed) if self._grid.agents else self._begin(self._seed, self._episode + 1)
        return Step(
            observations,
            torch.tensor([rewards[agent] for agent in range(self.num_agents)], dtype=torch.float32),
            torch.tensor([dones[agent] for agent in range(self.num_agents)]),
            torch.tensor([truncateds[agent] for agent in range(self.num_agents)]),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """See ``VectorEnvironment``."""
        settings = (self.num_agents, self._side, self._walls, self._length)
        position = (self._seed, self._episode, self._elapsed)
        return {
            "actions": self._actions.clone(),
            "position": torch.tensor(position),
            SETTINGS: torch.tensor(settings),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``VectorEnvironment``; takes as long as the steps of the episode so far."""
        fitting = fitting_state(self._where, state, self.state_dict())
        seed, episode, elapsed = fitting["position"].tolist()
        self._begin(seed, episode)
        for actions in fitting["actions"][:elapsed]:
            self._act(actions)

    def _begin(self, seed: int, episode: int) -> Tensor:
        """Start one episode and return its first observations."""
        self._seed, self._episode, self._elapsed = seed, episode, 0
        self._actions = torch.zeros(self._length, self.num_agents, dtype=torch.int64)
        # Neighbouring seeds must not share maps, as they would if episodes counted on from the seed. MettaGrid takes 31
        # bits, and counts the map's seed on itself.
        own = int(np.random.SeedSequence((seed, episode)).generate_state(1)[0] >> 2)
        self._grid = self._mettagrid.MettaGridPettingZooEnv(self._mettagrid.Simulator(), self._arena(own))
        return _stack(self._grid.reset(seed=own)[0])

    def _act(self, kinds: Tensor) -> Any:
        self._actions[self._elapsed] = kinds
        self._elapsed += 1
        return self._grid.step(dict(enumerate(kinds.tolist())))[:4]

    def _arena(self, seed: int) -> Any:
        return arena(
            self._mettagrid,
            agents=self.num_agents,
            side=self._side,
            walls=self._walls,
            seed=seed,
            length=self._length,
            truncates=True,
        )


def import_mettagrid() -> SimpleNamespace:
    """The names used here of ``mettagrid``, which is imported only when something is simulated.

    Raises:
        ImportError: it is not installed, or another version that lacks one of them.
    """
    places = {
        "mettagrid.builder.envs": ("make_arena",),
        "mettagrid.config.game_value": ("StatValue",),
        "mettagrid.config.reward_config": ("reward",),
        "mettagrid.envs.pettingzoo_env": ("MettaGridPettingZooEnv",),
        "mettagrid.policy.policy_env_interface": ("PolicyEnvInterface",),
        "mettagrid.simulator": ("Simulator",),
    }
    try:
        modules = {module: importlib.import_module(module) for module in places}
        return SimpleNamespace(**{name: getattr(modules[module], name) for module in places for name in places[module]})
    except AttributeError as error:  # another version, which has the module only
        raise ImportError(str(error)) from error


def arena(
    mettagrid: SimpleNamespace, *, agents: int, side: int, walls: int, seed: int, length: int, truncates: bool
) -> Any:
    """MettaGrid's own configuration of one episode: ``make_arena`` with a little to carry, to earn and to see.

    Args:
        mettagrid: of ``import_mettagrid``.
        agents: how many.
        side: cells along each side of the map, border included.
        walls: wall cells at random places.
        seed: of the map.
        length: actions after which the episode ends.
        truncates: whether that end is a truncation; otherwise it is a termination.
    """
    config = mettagrid.make_arena(num_agents=agents)
    game = config.game
    game.max_steps = length
    game.episode_truncates = truncates
    game.map_builder.width = game.map_builder.height = side
    game.map_builder.border_width = _BORDER
    game.map_builder.seed = seed
    game.map_builder.instance.objects = {"wall": walls}
    game.obs.global_obs.local_position = True
    game.agent.inventory.initial = dict(_INVENTORY)
    game.agent.rewards = {"moved": mettagrid.reward(mettagrid.StatValue(name="action.move.success"), weight=0.1)}
    return config


def describe(interface: Any, *, source: str) -> EnvironmentDescription:
    """What a policy may know of the environment: no action of MettaGrid takes an argument."""
    return EnvironmentDescription(
        obs_width=interface.obs_width,
        obs_height=interface.obs_height,
        num_tokens=interface.observation_shape[0],
        action_names=tuple(interface.action_names),
        max_action_args=(0,) * len(interface.action_names),
        features={
            feature.name: Feature(int(feature.id), float(feature.normalization)) for feature in interface.obs_features
        },
        source=source,
    )


def _stack(observed: dict[int, NDArray[np.uint8]]) -> Tensor:
    """``[B, M, 3]``, a copy of the simulator's live buffers."""
    return torch.from_numpy(np.stack([observed[agent] for agent in sorted(observed)]))

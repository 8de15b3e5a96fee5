"""A small world that a policy can learn on a CPU within minutes: each agent alone in a room, taking items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cached_property

import torch
from torch import Tensor

from parity.agents.config import load_environment
from parity.agents.errors import ConfigError
from parity.agents.interface import PADDING_BYTE, EnvironmentDescription
from parity.environments.inputs import SETTINGS, fitting_state, legal_actions, seed_number, whole_number
from parity.environments.interface import Step
from parity.environments.room import AHEAD, BACK, EFFECTS, NOTHING, REACH, SWEEP, TURN, Room
from parity.resources import fixture

#: What the arguments of an action do, from 0 on; further arguments and further actions do nothing.
_ACTIONS = {"attack": tuple(range(REACH, EFFECTS)), "get_items": (SWEEP,), "move": (AHEAD, BACK), "rotate": (TURN,)}
#: The tokens of a row: the agent's own, the item's, the decoy's, the walls'.
_OWN = ("agent:orientation", "episode_completion_pct", "last_action", "last_action_arg", "last_reward", "inv:heart")
_ITEM = {"type_id": 2, "hp": 30}
_DECOY = {"type_id": 3, "swappable": 1}
_WALL = {"type_id": 1}
_OWN_SLOTS, _ITEM_SLOTS, _DECOY_SLOTS, _FIRST_WALL = slice(0, 6), slice(6, 8), slice(8, 10), 10
_TAKEN = 100  # the last_reward token after an item was taken


@dataclass(frozen=True)
class Rules:
    """What decides how hard the world is.

    Args:
        room: cells along each side of the room.
        episode_length: actions after which an episode is truncated.
        goal: items after which it terminates.
    """

    room: int
    episode_length: int
    goal: int


@dataclass(frozen=True)
class Baselines:
    """Mean reward per step and agent of the two policies that a learned one stands between.

    Args:
        random: of uniformly random logits.
        optimal: of ``TokenGrid.optimal_actions``.
    """

    random: float
    optimal: float

    def normalised_return(self, mean_reward: float) -> float:
        """Where a mean reward per step and agent stands: 0 is the random policy, 1 the scripted optimum."""
        return (mean_reward - self.random) / (self.optimal - self.random)


class TokenGrid:
    """Each agent in a square room of its own, with an item and a decoy; taking the item earns 1.

    - ``move`` 0 goes one cell ahead, 1 one back, save into a wall; ``rotate`` 0 is a quarter turn clockwise.
    - ``get_items`` 0 takes the item from any of the nine cells around; ``attack`` 0 to 8 takes it from one of them, in
      reading order: 0 is ahead to the left, 4 the own cell.
    - Everything else does nothing, and nothing takes the decoy.

    When an item is taken, another one and another decoy appear at random. An episode terminates with the last item of
    ``goal``, or is truncated after ``episode_length`` actions; then the agent is placed anew too. A reset finds the
    agents amid episodes, some steps and items into them, so that they do not all end theirs at once.

    A row holds the agent's own tokens on the middle cell (heading, share of the episode gone, last action and
    argument, ``last_reward`` 100 after an item, items taken as ``inv:heart``), the item (``type_id`` 2, ``hp`` 30), the
    decoy (``type_id`` 3, ``swappable`` 1) and the walls in sight (``type_id`` 1). The picture turns with the agent:
    ahead is the smaller y. Item and decoy are always in the box, so no memory is needed. What becomes of one agent does
    not depend on the actions of the others.

    Args:
        description: box, M, actions and features; the default environment when left out.
        num_agents: B.
        room: cells along each side of the room.
        episode_length: actions after which an episode is truncated.
        goal: items after which it terminates.

    Raises:
        ConfigError: a number is out of range, or the description lacks an action, a feature or tokens.
    """

    def __init__(
        self,
        description: EnvironmentDescription | None = None,
        *,
        num_agents: int = 64,
        room: int = 3,
        episode_length: int = 32,
        goal: int = 2,
    ) -> None:
        self.description = description or load_environment(fixture("environments", "default.yaml"))
        self._where = f"TokenGrid on environment {self.description.source or '(built in code)'}"
        _require(self.description, room, self._where)
        # A room of 8 would reach cell (15, 15) of the largest box, whose coordinate byte means padding.
        widest = min(7, (self.description.obs_width + 1) // 2, (self.description.obs_height + 1) // 2)
        self.num_agents = whole_number(self._where, "num_agents", num_agents, 1, 1_000_000)
        self.rules = Rules(
            room=whole_number(self._where, "room", room, 2, widest, "all of it must fit the box, seen from anywhere"),
            episode_length=whole_number(self._where, "episode_length", episode_length, 1, 1_000_000),
            goal=whole_number(self._where, "goal", goal, 1, 255, "one token counts them"),
        )
        self._room = Room(room, width=self.description.obs_width, height=self.description.obs_height)
        self._largest = torch.tensor(self.description.max_action_args)
        self._effect = _effects(self.description)
        self._blank, self._walls = _token_tables(self.description, self._room)
        self._random = torch.Generator()
        self.reset(0)

    def reset(self, seed: int) -> Step:
        """See ``VectorEnvironment``."""
        self._random.manual_seed(seed_number(self._where, seed))
        pose, item, decoy = self._draw()
        nobody = torch.zeros(self.num_agents, dtype=torch.bool)
        self._state = {
            "pose": pose,
            "item": item,
            "decoy": decoy,
            "clock": torch.randint(self.rules.episode_length, (self.num_agents,), generator=self._random),
            "taken": torch.randint(self.rules.goal, (self.num_agents,), generator=self._random),
            "action": torch.zeros(self.num_agents, 2, dtype=torch.int64),
            "took": nobody,
        }
        return Step(self._observe(), nobody.float(), nobody.clone(), nobody.clone())

    def step(self, actions: Tensor) -> Step:
        """See ``VectorEnvironment``."""
        actions = legal_actions(actions, self.num_agents, self.description.action_names, self._largest)
        old = self._state
        effect = self._effect[actions[:, 0], actions[:, 1]]
        took = self._room.takes[old["pose"], old["item"], effect]
        taken, clock = old["taken"] + took, old["clock"] + 1
        dones = taken >= self.rules.goal
        truncateds = ~dones & (clock >= self.rules.episode_length)
        opens = dones | truncateds
        pose, item, decoy = self._draw()
        self._state = {
            "pose": torch.where(opens, pose, self._room.moved[old["pose"], effect]),
            "item": torch.where(opens | took, item, old["item"]),
            "decoy": torch.where(opens | took, decoy, old["decoy"]),
            "clock": clock.masked_fill(opens, 0),
            "taken": taken.masked_fill(opens, 0),
            "action": actions.masked_fill(opens[:, None], 0),
            "took": took & ~opens,
        }
        return Step(self._observe(), took.float(), dones, truncateds)

    def state_dict(self) -> dict[str, Tensor]:
        """See ``VectorEnvironment``."""
        copies = {key: value.clone() for key, value in self._state.items()}
        return copies | {"random": self._random.get_state(), SETTINGS: torch.tensor(astuple(self.rules))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See ``VectorEnvironment``."""
        fitting = fitting_state(self._where, state, self.state_dict())
        self._random.set_state(fitting.pop("random"))
        del fitting[SETTINGS]
        self._state = fitting

    def optimal_actions(self) -> Tensor:
        """The first action of a shortest way to each agent's item, from the true state: ``[B, 2]`` int64.

        Shortest for this item; where it leaves the agent for the next one is not weighed.
        """
        return self._action_of_effect[self._room.shortest[self._state["pose"], self._state["item"]]]

    @cached_property
    def baselines(self) -> Baselines:
        """What random and scripted policies earn under these rules and actions: ``measure_baselines`` from seed 0."""
        return measure_baselines(self)

    @cached_property
    def _action_of_effect(self) -> Tensor:
        """``[EFFECTS, 2]``; doing nothing, which no shortest way does, is left at (0, 0)."""
        table = torch.zeros(EFFECTS, 2, dtype=torch.int64)
        for name, effects in _ACTIONS.items():
            for argument, effect in enumerate(effects):
                table[effect] = torch.tensor([self.description.action_names.index(name), argument])
        return table

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """A random pose, item and decoy for each agent, ``[B]`` each: drawn at every step, whoever needs them."""
        cells = self.rules.room**2
        drawn = torch.randint(2**62, (3, self.num_agents), generator=self._random)
        item = drawn[1] % cells
        return drawn[0] % (4 * cells), item, (item + 1 + drawn[2] % (cells - 1)) % cells

    def _observe(self) -> Tensor:
        """``[B, M, 3]`` uint8, a new tensor."""
        state, pose = self._state, self._state["pose"]
        gone = state["clock"] * 255 // self.rules.episode_length
        own = [pose % 4, gone, *state["action"].unbind(1), state["took"] * _TAKEN, state["taken"]]
        observations = self._blank.repeat(self.num_agents, 1, 1)
        observations[:, _OWN_SLOTS, 2] = torch.stack(own, dim=1).clamp(max=255).to(torch.uint8)
        observations[:, _ITEM_SLOTS, 0] = self._room.coordinates[pose, state["item"]][:, None]
        observations[:, _DECOY_SLOTS, 0] = self._room.coordinates[pose, state["decoy"]][:, None]
        observations[:, _FIRST_WALL : _FIRST_WALL + self._walls.shape[1]] = self._walls[pose]
        return observations


def measure_baselines(environment: TokenGrid, *, seed: int = 0, steps: int = 1024) -> Baselines:
    """Run the random and the scripted policy for ``steps`` steps of 64 agents each, in environments built alike.

    The given environment is not stepped. The same arguments give the same figures.
    """
    legal = torch.tensor(
        [
            (kind, argument)
            for kind, largest in enumerate(environment.description.max_action_args)
            for argument in range(largest + 1)
        ]
    )
    random = torch.Generator().manual_seed(seed)
    twin = TokenGrid(environment.description, num_agents=64, **asdict(environment.rules))
    rewards = []
    for scripted in (False, True):
        twin.reset(seed)
        earned = 0.0
        for _ in range(steps):
            drawn = legal[torch.randint(len(legal), (twin.num_agents,), generator=random)]
            earned += float(twin.step(twin.optimal_actions() if scripted else drawn).rewards.mean())
        rewards.append(earned / steps)
    return Baselines(*rewards)


def _require(description: EnvironmentDescription, room: int, where: str) -> None:
    """Refuse a description that lacks what the world is made of."""
    if min(description.obs_width, description.obs_height) < 3:
        raise ConfigError(
            f"{where}: the box is {description.obs_width} x {description.obs_height}; give at least 3 x 3"
        )
    largest = dict(zip(description.action_names, description.max_action_args, strict=True))
    for name, effects in _ACTIONS.items():
        if largest.get(name, -1) < len(effects) - 1:
            raise ConfigError(
                f"{where}: give it an action {name!r} with max_action_args of at least {len(effects) - 1}"
            )
    for name in (*_OWN, *_ITEM, *_DECOY, *_WALL):
        if name not in description.features:
            raise ConfigError(f"{where}: give it a feature {name!r}")
    needed = _FIRST_WALL + 4 * (room + 1)
    if description.num_tokens < needed:
        raise ConfigError(f"{where}: num_tokens is {description.num_tokens}; a room of {room} needs {needed}")


def _effects(description: EnvironmentDescription) -> Tensor:
    """What each action does: ``[types, largest argument + 1]`` int64."""
    table = torch.full((len(description.action_names), max(description.max_action_args) + 1), NOTHING)
    for name, effects in _ACTIONS.items():
        table[description.action_names.index(name), : len(effects)] = torch.tensor(effects)
    return table


def _token_tables(description: EnvironmentDescription, room: Room) -> tuple[Tensor, Tensor]:
    """A row without what changes in it, ``[M, 3]``, and the tokens of the walls seen from each pose, ``[P, W, 3]``."""
    blank = torch.full((description.num_tokens, 3), PADDING_BYTE, dtype=torch.uint8)
    blank[_OWN_SLOTS, 0] = (description.obs_width // 2) << 4 | description.obs_height // 2
    tokens = [*dict.fromkeys(_OWN, 0).items(), *_ITEM.items(), *_DECOY.items()]
    numbers = [(description.features[name].id, value) for name, value in tokens]
    blank[:_FIRST_WALL, 1:] = torch.tensor(numbers, dtype=torch.uint8)
    walls = torch.full((*room.walls.shape, 3), PADDING_BYTE, dtype=torch.uint8)
    walls[..., 0] = room.walls
    ((name, value),) = _WALL.items()
    walls[room.walls != PADDING_BYTE, 1:] = torch.tensor([description.features[name].id, value], dtype=torch.uint8)
    return blank, walls

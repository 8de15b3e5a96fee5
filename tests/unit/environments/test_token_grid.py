"""The built-in world, judged by what it shows: the rules are read off the tokens, in plain loops."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from parity.agents.config import load_agent_config, load_environment
from parity.agents.errors import ConfigError
from parity.agents.interface import ENV_OBS, EnvironmentDescription, Feature, SystemConfig
from parity.agents.metta_agent import MettaAgent
from parity.environments.token_grid import TokenGrid, measure_baselines
from parity.resources import fixture

AGENTS = 48
ENDLESS: dict[str, Any] = {"episode_length": 1_000_000, "goal": 255}
Cell = tuple[int, int]


def default_description() -> EnvironmentDescription:
    return load_environment(fixture("environments", "default.yaml"))


def legal_actions(description: EnvironmentDescription) -> list[tuple[int, int]]:
    return [(kind, arg) for kind, largest in enumerate(description.max_action_args) for arg in range(largest + 1)]


def everyone(environment: TokenGrid, action: tuple[int, int]) -> Tensor:
    return torch.tensor([action] * environment.num_agents)


def drawn(environment: TokenGrid, generator: torch.Generator) -> Tensor:
    legal = torch.tensor(legal_actions(environment.description))
    return legal[torch.randint(len(legal), (environment.num_agents,), generator=generator)]


@dataclass
class Seen:
    """One row, decoded: offsets (right, down) from the middle cell, and the agent's own values by feature name."""

    item: Cell
    decoy: Cell
    walls: set[Cell]
    own: dict[str, int]


def decode(row: Tensor, environment: EnvironmentDescription) -> Seen:
    name_of = {feature.id: name for name, feature in environment.features.items()}
    middle = (environment.obs_width // 2, environment.obs_height // 2)
    cells: dict[str, dict[Cell, int]] = {}
    length = int((row[:, 0] != 0xFF).sum())
    assert bool((row[length:] == 0xFF).all()), "padding stands at the end"
    for byte, feature, value in row[:length].tolist():
        x, y = byte >> 4, byte & 15
        assert x < environment.obs_width
        assert y < environment.obs_height
        offset = (x - middle[0], y - middle[1])
        assert offset not in cells.setdefault(name_of[feature], {}), "one token per cell and feature"
        cells[name_of[feature]][offset] = value
    types = cells.pop("type_id")
    ((item, hp),) = cells.pop("hp").items()
    ((decoy, swappable),) = cells.pop("swappable").items()
    assert (types.pop(item), hp) == (2, 30)
    assert (types.pop(decoy), swappable) == (3, 1)
    assert set(types.values()) <= {1}
    own = {name: values.pop((0, 0)) for name, values in cells.items()}
    assert not any(cells.values())
    assert set(own) == {
        *("agent:orientation", "episode_completion_pct", "last_action", "last_action_arg", "last_reward", "inv:heart")
    }
    return Seen(item, decoy, set(types), own)


def decode_all(observations: Tensor, environment: TokenGrid) -> list[Seen]:
    return [decode(row, environment.description) for row in observations]


def in_box(offset: Cell, environment: EnvironmentDescription) -> bool:
    x, y = offset[0] + environment.obs_width // 2, offset[1] + environment.obs_height // 2
    return 0 <= x < environment.obs_width and 0 <= y < environment.obs_height


def expected_after(seen: Seen, name: str, argument: int) -> tuple[Cell, set[Cell]]:
    """Item and walls as the rules say they are seen after an action that takes nothing."""

    def shifted(right: int, down: int) -> tuple[Cell, set[Cell]]:
        return (seen.item[0] + right, seen.item[1] + down), {(x + right, y + down) for x, y in seen.walls}

    if name == "move" and argument < 2:
        ahead = -1 if argument == 0 else 1
        return shifted(0, 0) if (0, ahead) in seen.walls else shifted(0, -ahead)
    if name == "rotate" and argument == 0:  # what was to the right is now ahead
        return (seen.item[1], -seen.item[0]), {(y, -x) for x, y in seen.walls}
    return shifted(0, 0)


def takes(seen: Seen, name: str, argument: int) -> bool:
    right, down = seen.item
    if name == "get_items" and argument == 0:
        return max(abs(right), abs(down)) <= 1
    return name == "attack" and argument < 9 and (right, down) == (argument % 3 - 1, argument // 3 - 1)


@pytest.mark.parametrize("room", [2, 4, 5])
def test_every_action_does_what_the_rules_say_and_nothing_else(room: int) -> None:
    environment = TokenGrid(num_agents=400, room=room, **ENDLESS)
    check_rules(environment)


def test_further_arguments_other_numbers_and_other_orders_follow_the_same_rules() -> None:
    default = default_description()
    ids = {name: Feature(250 - 7 * number, 3.0) for number, name in enumerate(default.features)}
    description = EnvironmentDescription(
        16, 14, 60, ("rotate", "vote", "get_items", "move", "attack"), (2, 4, 1, 3, 11), ids, "sparse"
    )
    environment = TokenGrid(description, num_agents=400, room=7, **ENDLESS)
    check_rules(environment)


def check_rules(environment: TokenGrid) -> None:
    generator = torch.Generator().manual_seed(0)
    environment.reset(5)
    legal = legal_actions(environment.description)
    taken_by = set()
    start = environment.step(drawn(environment, generator))
    stored = environment.state_dict()
    before = decode_all(start.observations, environment)
    for kind, argument in legal:
        environment.load_state_dict(stored)
        after = environment.step(everyone(environment, (kind, argument)))
        name = environment.description.action_names[kind]
        for agent, now in enumerate(decode_all(after.observations, environment)):
            if bool(after.dones[agent] | after.truncateds[agent]):
                continue
            was = before[agent]
            item, walls = expected_after(was, name, argument)
            took = takes(was, name, argument)
            assert float(after.rewards[agent]) == float(took)
            assert took or now.item == item
            assert now.item != now.decoy
            in_sight = {cell for cell in walls if in_box(cell, environment.description)}
            assert now.walls >= in_sight
            assert now.walls == in_sight or len(was.walls) < 4 * (environment.rules.room + 1)
            quarters = int(name == "rotate" and argument == 0)
            assert now.own["agent:orientation"] == (was.own["agent:orientation"] + quarters) % 4
            assert (now.own["last_action"], now.own["last_action_arg"]) == (kind, argument)
            assert now.own["last_reward"] == 100 * took
            assert now.own["inv:heart"] == was.own["inv:heart"] + took
            if took:
                taken_by.add((name, argument))
    assert taken_by == {("get_items", 0), *(("attack", argument) for argument in range(9))}


def test_all_of_the_room_is_seen_save_far_walls() -> None:
    environment = TokenGrid(num_agents=AGENTS, room=6, **ENDLESS)
    counts = set()
    for seen in decode_all(environment.reset(2).observations, environment):
        assert max(map(abs, seen.item + seen.decoy)) <= 5
        assert all(max(abs(x), abs(y)) <= 5 for x, y in seen.walls)
        counts.add(len(seen.walls))
    assert len(counts) > 1
    assert max(counts) <= 4 * 7


def test_places_are_drawn_over_the_whole_room() -> None:
    environment = TokenGrid(num_agents=2000, room=3)
    poses = set()
    for seen in decode_all(environment.reset(0).observations, environment):
        assert len(seen.walls) == 16
        left, top = min(x for x, _ in seen.walls), min(y for _, y in seen.walls)
        poses.add((left, top, seen.own["agent:orientation"], seen.item, seen.decoy))
    assert len({pose[:3] for pose in poses}) == 9 * 4
    assert len({(left, top, *item) for left, top, _, item, _ in poses}) == 9 * 9
    assert {(item[0] - left, item[1] - top) for left, top, _, item, _ in poses} == {
        (x, y) for x in (1, 2, 3) for y in (1, 2, 3)
    }


def test_episodes_end_by_goal_or_by_length_and_flags_mark_the_first_observation() -> None:
    length, goal = 9, 2
    environment = TokenGrid(num_agents=AGENTS, room=2, episode_length=length, goal=goal)
    generator = torch.Generator().manual_seed(3)
    before = decode_all(environment.reset(1).observations, environment)
    age: list[int | None] = [None] * AGENTS  # unknown in the episodes that the reset found agents in
    ends = {"done": 0, "truncated": 0, "truncated with an item": 0}
    for _ in range(60):
        step = environment.step(drawn(environment, generator))
        now = decode_all(step.observations, environment)
        for agent in range(AGENTS):
            took = int(step.rewards[agent])
            done, truncated = bool(step.dones[agent]), bool(step.truncateds[agent])
            assert done == (before[agent].own["inv:heart"] + took == goal)
            assert not (done and truncated)
            gone = age[agent]
            if gone is not None:
                assert before[agent].own["episode_completion_pct"] == gone * 255 // length
                assert truncated == (not done and gone + 1 == length)
                age[agent] = gone + 1
            if done or truncated:
                own = {name: value for name, value in now[agent].own.items() if name != "agent:orientation"}
                assert not any(own.values()), "an episode begins with nothing behind it"
                age[agent] = 0
                ends["done"] += done
                ends["truncated"] += truncated
                ends["truncated with an item"] += truncated and took
        before = now
    assert all(count > 3 for count in ends.values()), ends
    assert None not in age


def test_a_reset_finds_the_agents_amid_episodes() -> None:
    environment = TokenGrid(num_agents=AGENTS, episode_length=16, goal=3)
    seen = decode_all(environment.reset(0).observations, environment)
    assert {row.own["inv:heart"] for row in seen} == {0, 1, 2}
    assert len({row.own["episode_completion_pct"] for row in seen}) > 10
    noop = everyone(environment, (3, 0))
    truncated = torch.stack([environment.step(noop).truncateds for _ in range(16)])
    assert bool((truncated.sum(dim=0) == 1).all())
    assert int(truncated.any(dim=1).sum()) > 10


def test_the_last_item_at_the_last_step_terminates() -> None:
    environment = TokenGrid(num_agents=AGENTS, room=2, episode_length=1, goal=1)
    step = environment.step(environment.optimal_actions())
    assert bool(step.dones.all())
    assert not bool(step.truncateds.any())


@pytest.mark.parametrize("end", ["dones", "truncateds"])
def test_an_episode_begins_with_everything_placed_anew(end: str) -> None:
    environment = TokenGrid(num_agents=400, room=2, episode_length=1, goal=1)
    before = decode_all(environment.reset(0).observations, environment)
    step = environment.step(environment.optimal_actions() if end == "dones" else everyone(environment, (3, 0)))
    assert bool(getattr(step, end).all())
    pairs = list(zip(before, decode_all(step.observations, environment), strict=True))
    stayed = {
        "heading": sum(was.own["agent:orientation"] == now.own["agent:orientation"] for was, now in pairs),
        "cell": sum(was.walls == now.walls for was, now in pairs),
        "item": sum(was.item == now.item for was, now in pairs),
        "decoy": sum(was.decoy == now.decoy for was, now in pairs),
    }
    assert all(count < 200 for count in stayed.values()), stayed


def test_agents_do_not_affect_one_another() -> None:
    ours, theirs = TokenGrid(num_agents=AGENTS), TokenGrid(num_agents=AGENTS)
    generator = torch.Generator().manual_seed(0)
    differed = False
    for _ in range(50):
        actions = drawn(ours, generator)
        other = actions.clone()
        other[0] = drawn(ours, generator)[0]
        a, b = ours.step(actions), theirs.step(other)
        assert torch.equal(a.observations[1:], b.observations[1:])
        assert torch.equal(a.rewards[1:], b.rewards[1:])
        differed |= not torch.equal(a.observations[0], b.observations[0])
    assert differed


def shortest(seen: Seen) -> int:
    """Actions until the item is taken, by breadth-first search in the frame of the first observation."""
    ways = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    queue, known = deque([((0, 0), 0, 0)]), {((0, 0), 0)}
    while queue:
        (x, y), heading, actions = queue.popleft()
        if max(abs(seen.item[0] - x), abs(seen.item[1] - y)) <= 1:
            return actions + 1
        ahead = ways[heading]
        for cell, turned in [
            ((x + ahead[0], y + ahead[1]), heading),
            ((x - ahead[0], y - ahead[1]), heading),
            ((x, y), (heading + 1) % 4),
        ]:
            if cell not in seen.walls and (cell, turned) not in known:
                known.add((cell, turned))
                queue.append((cell, turned, actions + 1))
    raise AssertionError("the item cannot be reached")


def test_the_scripted_policy_takes_a_shortest_way() -> None:
    environment = TokenGrid(num_agents=400, room=5, **ENDLESS)
    step = environment.reset(4)
    wanted = [shortest(seen) for seen in decode_all(step.observations, environment)]
    needed = torch.zeros(400, dtype=torch.int64)
    for actions in range(1, max(wanted) + 1):
        step = environment.step(environment.optimal_actions())
        needed[(step.rewards > 0) & (needed == 0)] = actions
    assert needed.tolist() == wanted
    assert max(wanted) == 8


def test_baselines_are_reproducible_and_far_apart() -> None:
    environment = TokenGrid(num_agents=3)
    before = environment.state_dict()
    baselines = environment.baselines
    assert all(torch.equal(value, before[key]) for key, value in environment.state_dict().items())
    assert measure_baselines(TokenGrid(), seed=0) == baselines
    assert 0.0 < 10 * baselines.random < baselines.optimal < 1.0
    other = measure_baselines(environment, seed=1)
    assert other != baselines
    assert other.optimal == pytest.approx(baselines.optimal, rel=0.02)
    assert other.random == pytest.approx(baselines.random, rel=0.1)
    assert baselines.normalised_return(baselines.random) == 0.0
    assert baselines.normalised_return(baselines.optimal) == 1.0
    assert baselines.normalised_return((baselines.random + baselines.optimal) / 2) == pytest.approx(0.5)


def test_a_policy_that_acts_at_random_scores_nothing() -> None:
    environment = TokenGrid(num_agents=64)
    environment.reset(123)
    generator = torch.Generator().manual_seed(9)
    earned = sum(float(environment.step(drawn(environment, generator)).rewards.mean()) for _ in range(500)) / 500
    assert abs(environment.baselines.normalised_return(earned)) < 0.01


@pytest.mark.parametrize("agent", sorted(path.stem for path in fixture("agents").glob("*.yaml")))
def test_every_shipped_agent_acts_in_it(agent: str) -> None:
    environment = TokenGrid(num_agents=2)
    policy = MettaAgent(environment.description, SystemConfig(), load_agent_config(fixture("agents", f"{agent}.yaml")))
    policy.initialize_to_environment(environment.description)
    step = environment.reset(0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        td = TensorDict({ENV_OBS: step.observations}, [2])
        environment.step(policy(td)["actions"])  # a token that the policy must ignore would warn, and warnings fail


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"room": 7}, r"room is 7; give a whole number from 2 to 6 \(all of it must fit the box"),
        ({"room": 1}, "room is 1; give a whole number from 2 to 6"),
        ({"episode_length": 0}, "episode_length is 0; give a whole number from 1"),
        ({"goal": 256}, "goal is 256; give a whole number from 1 to 255"),
        ({"goal": 1.5}, "goal is 1.5; give a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"TokenGrid on environment .*default.yaml: {message}"):
        TokenGrid(**settings)


def test_descriptions_that_lack_something_are_refused() -> None:
    default = default_description()
    features = {name: feature for name, feature in default.features.items() if name != "hp"}
    for description, message in [
        (replace(default, max_action_args=(7, *default.max_action_args[1:])), "action 'attack' with .* at least 8"),
        (replace(default, action_names=("attack", "get", *default.action_names[2:])), "give it an action 'get_items'"),
        (replace(default, features=features), "give it a feature 'hp'"),
        (replace(default, num_tokens=25), "num_tokens is 25; a room of 3 needs 26"),
        (replace(default, obs_width=2), "the box is 2 x 11; give at least 3 x 3"),
    ]:
        with pytest.raises(ConfigError, match=message):
            TokenGrid(description)
    TokenGrid(replace(default, num_tokens=26))


def test_a_state_from_other_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"settings \[3, 32, 2\], here they are \[3, 32, 3\]"):
        TokenGrid(goal=3).load_state_dict(TokenGrid(goal=2).state_dict())

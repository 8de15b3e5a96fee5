"""The released MettaGrid as an environment: agents, truncation, restart; and what is said where it is absent."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from parity.agents.errors import ConfigError
from parity.environments.metta_grid import MettaGridEnvironment
from parity.environments.recorded import load_recording
from parity.environments.registry import make_environment
from parity.resources import fixture


def small(**settings: int) -> MettaGridEnvironment:
    pytest.importorskip("mettagrid", reason="needs the optional package: pip install 'parity[mettagrid]'")
    return MettaGridEnvironment(**{"num_agents": 4, "side": 9, "walls": 10, "episode_length": 5} | settings)


def moves(environment: MettaGridEnvironment, kind: int) -> Tensor:
    return torch.tensor([[kind, 0]] * environment.num_agents)


def test_episodes_are_truncated_for_all_and_restart_on_another_map() -> None:
    environment = small()
    progress = environment.description.features["episode_completion_pct"].id
    observations = environment.reset(3).observations
    firsts = [observations]
    for number in range(1, 16):
        step = environment.step(moves(environment, number % 5))
        opens = number % 5 == 0
        assert step.truncateds.tolist() == [opens] * 4
        assert not bool(step.dones.any())
        is_progress = (step.observations[..., 0] == 0xFE) & (step.observations[..., 1] == progress)
        shown = (step.observations[..., 2].long() * is_progress).sum(dim=1)
        assert bool((shown == 0).all()) == opens
        if opens:
            firsts.append(step.observations)
    assert not any(torch.equal(ours, theirs) for i, ours in enumerate(firsts) for theirs in firsts[:i])


def test_an_agent_earns_by_moving_and_actions_reach_the_agent_they_are_meant_for() -> None:
    environment = small(walls=0, episode_length=100)
    environment.reset(1)
    still = environment.step(moves(environment, 0))
    assert not bool(still.rewards.any())
    for mover in range(4):
        actions = moves(environment, 0)
        earned = torch.zeros(4)
        for kind in (1, 2, 3, 4):  # somewhere is room
            actions[mover, 0] = kind
            earned += environment.step(actions).rewards
        assert float(earned[mover]) > 0.05
        earned[mover] = 0.0
        assert not bool(earned.any())


def test_row_i_is_what_agent_i_sees() -> None:
    environment = small()
    last_action = environment.description.features["last_action"].id
    kinds = [3, 0, 4, 1]
    observations = environment.step(torch.tensor([[kind, 0] for kind in kinds])).observations
    is_last_action = (observations[..., 0] == 0xFE) & (observations[..., 1] == last_action)
    assert (observations[..., 2].long() * is_last_action).sum(dim=1).tolist() == kinds


def test_neighbouring_seeds_share_no_map() -> None:
    environment = small(episode_length=1)
    seen = []
    for seed in (0, 1, 2):
        seen.append(environment.reset(seed).observations)
        seen += [environment.step(moves(environment, 0)).observations for _ in range(3)]
    maps = [rows.masked_fill(rows[..., :1] == 0xFE, 0) for rows in seen]  # without what the agent knows of itself
    assert len({rows.numpy().tobytes() for rows in maps}) == len(maps)


def test_the_description_is_the_one_that_recordings_have() -> None:
    environment, recorded = small().description, load_recording(fixture("observations", "yard.safetensors")).environment
    assert environment.num_tokens == recorded.num_tokens == 500
    assert environment.action_names == recorded.action_names
    assert environment.max_action_args == recorded.max_action_args
    assert dict(environment.features) == dict(recorded.features)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_agents": 26}, r"num_agents is 26; give a whole number from 1 to 25 \(each needs a cell of the map\)"),
        ({"walls": 22}, "walls is 22; give a whole number from 0 to 21"),
        ({"side": 5}, "side is 5; give a whole number from 6"),
        ({"episode_length": 0}, "episode_length is 0; give a whole number from 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_a_full_map_can_be_built() -> None:
    environment = small(num_agents=20, walls=5)
    assert environment.step(moves(environment, 1)).observations.shape == (20, 500, 3)


def test_without_mettagrid_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mettagrid.builder.envs", None)
    with pytest.raises(ConfigError, match=r"needs the package mettagrid.*pip install 'parity\[mettagrid\]'"):
        make_environment("metta_grid", num_agents=4)

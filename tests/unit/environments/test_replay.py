"""Recordings replayed: the recorded steps in their order, round and round."""

from __future__ import annotations

import pytest
import torch

from parity.environments.recorded import Recording, load_recording
from parity.environments.replay import ReplayEnvironment
from parity.resources import fixture


@pytest.fixture
def recording() -> Recording:
    return load_recording(fixture("observations", "yard.safetensors"))


def test_every_agent_replays_its_recorded_one_and_the_end_counts_as_a_truncation(recording: Recording) -> None:
    environment = ReplayEnvironment(recording, num_agents=7)
    first = environment.reset(3)
    noop = torch.zeros(7, 2, dtype=torch.int32)
    steps = [environment.step(noop) for _ in range(recording.steps + 5)]
    starts = set()
    for agent in range(7):
        source = agent % recording.agents
        matches = [
            start
            for start in range(recording.steps)
            if torch.equal(recording.env_obs[start, source], first.observations[agent])
        ]
        assert len(matches) == 1
        starts.add(matches[0])
        for number, step in enumerate(steps, start=matches[0] + 1):
            now = number % recording.steps
            assert torch.equal(step.observations[agent], recording.env_obs[now, source])
            assert step.rewards[agent] == recording.rewards[now, source]
            assert step.dones[agent] == recording.dones[now, source]
            assert step.truncateds[agent] == (recording.truncateds[now, source] or now == 0)
    assert len(starts) > 1


def test_actions_change_nothing_and_the_recording_is_not_written_to(recording: Recording) -> None:
    before = recording.truncateds.clone()
    ours, theirs = ReplayEnvironment(recording), ReplayEnvironment(recording)
    assert ours.num_agents == recording.agents
    for kind in range(5):
        step = ours.step(torch.tensor([[kind, 0]] * recording.agents))
        other = theirs.step(torch.zeros(recording.agents, 2, dtype=torch.int64))
        assert torch.equal(step.observations, other.observations)
        assert torch.equal(step.rewards, other.rewards)
    assert torch.equal(recording.truncateds, before)

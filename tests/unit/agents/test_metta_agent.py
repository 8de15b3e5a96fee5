"""The facade: what reaches the policy, what is logged, what is forwarded."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from component_builders import SMALL, observation, small_components
from torch import distributed, nn

from parity.agents import metta_agent
from parity.agents.component import ComponentPolicy
from parity.agents.errors import ConfigError
from parity.agents.interface import AgentConfig, Policy, SystemConfig
from parity.agents.metta_agent import DistributedMettaAgent, MettaAgent

CONFIG = AgentConfig(
    components=small_components(),
    clip_range=0.25,
    analyze_weights_interval=12,
    l2_init_weight_update_interval=5,
    observations={"obs_key": "grid_obs"},
    extra={"policy_selector": {"type": "top"}},
    source="agent.yaml",
)
SYSTEM = SystemConfig(seed=9, device="cpu", dtype=torch.float64)


@pytest.fixture
def agent() -> MettaAgent:
    built = MettaAgent(SMALL, SYSTEM, CONFIG)
    built.initialize_to_environment(SMALL)
    return built


def test_every_key_reaches_the_reference(agent: MettaAgent) -> None:
    policy = agent.policy
    assert isinstance(policy, ComponentPolicy)
    assert policy.clip_range == 0.25
    assert policy.analyze_weights_interval == 12
    assert policy.l2_init_weight_update_interval == 5
    assert policy.observations == {"obs_key": "grid_obs"}
    assert policy.extra_config == {"policy_selector": {"type": "top"}}
    assert (policy.source, policy.seed) == ("agent.yaml", 9)
    assert (policy.device, policy.dtype) == (torch.device("cpu"), torch.float64)
    assert list(policy.components) == list(CONFIG.components)


def test_agent_type_builds_its_class_with_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Twin(ComponentPolicy):
        def __init__(self, env: Any, **keywords: Any) -> None:
            given.update(keywords)
            super().__init__(env, **keywords)

    module = ModuleType("twin_module")
    module.Twin = Twin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "twin_module", module)
    monkeypatch.setitem(metta_agent.AGENT_TYPES, "twin", ("twin_module", "Twin"))
    agent = MettaAgent(SMALL, SYSTEM, dataclasses.replace(CONFIG, agent_type="twin"))
    assert type(agent.policy) is Twin
    assert given == {
        "components": CONFIG.components,
        "clip_range": 0.25,
        "analyze_weights_interval": 12,
        "l2_init_weight_update_interval": 5,
        "observations": {"obs_key": "grid_obs"},
        "extra_config": {"policy_selector": {"type": "top"}},
        "source": "agent.yaml",
        "seed": 9,
        "device": "cpu",
        "dtype": torch.float64,
    }


def test_an_unknown_agent_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"agent.yaml: unknown agent_type 'fats'; did you mean 'fast'\?"):
        MettaAgent(SMALL, SYSTEM, dataclasses.replace(CONFIG, agent_type="fats"))


def test_the_configuration_is_logged_once_as_the_policy_holds_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="parity"):
        agent = MettaAgent(SMALL, SYSTEM, CONFIG)
    (record,) = caplog.records
    count = sum(parameter.numel() for parameter in agent.parameters())
    assert record.getMessage() == (
        "agent ComponentPolicy (agent_type None) from agent.yaml: clip_range=0.25, analyze_weights_interval=12, "
        "l2_init_weight_update_interval=5, observations={'obs_key': 'grid_obs'}, "
        "extra_config={'policy_selector': {'type': 'top'}}, seed=9, device=cpu, dtype=torch.float64, "
        f"parameters={count}"
    )


def test_configuration_has_one_owner(agent: MettaAgent) -> None:
    agent.clip_range = 3.0
    assert agent.policy.clip_range == 3.0 and "clip_range" not in vars(agent)
    for name in ("seed", "device", "dtype", "observations", "extra_config", "analyze_weights_interval"):
        assert getattr(agent, name) == getattr(agent.policy, name)


def test_forward_is_the_policys(agent: MettaAgent) -> None:
    td = observation(2)
    assert agent(td) is td and set(agent.get_memory()) == {0}
    action = torch.zeros(2, 3, 2, dtype=torch.int64)
    expected = agent.policy(observation(2, 3), action=action)
    assert agent(observation(2, 3), None, action)["value"].equal(expected["value"])


METHODS = sorted(Policy.__abstractmethods__ - {"forward"})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_interface_is_forwarded(agent: MettaAgent, name: str) -> None:
    method = Mock(return_value=object())
    object.__setattr__(agent.policy, name, method)
    parameters = list(inspect.signature(getattr(MettaAgent, name)).parameters)[1:]
    arguments = [object() for _ in parameters]
    result = getattr(agent, name)(*arguments)
    method.assert_called_once_with(*arguments)
    assert result is method.return_value or getattr(MettaAgent, name).__annotations__["return"] == "None"


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_the_distributed_agent_runs_and_forwards_unknown_attributes(agent: MettaAgent) -> None:
    expected = agent(observation(2, 3), None, torch.zeros(2, 3, 2, dtype=torch.int64))["value"]
    wrapped = DistributedMettaAgent(agent)
    assert wrapped.module is agent and wrapped.policy is agent.policy
    out = wrapped(observation(2, 3), None, torch.zeros(2, 3, 2, dtype=torch.int64))
    assert out["value"].equal(expected)
    (out["value"].sum() + out["entropy"].sum()).backward()
    assert all(parameter.grad is not None for parameter in agent.parameters())
    wrapped.clip_weights()
    assert wrapped.clip_range == 0.25
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


@pytest.mark.usefixtures("process_group")
def test_batch_normalisation_stays_as_it_is_on_the_cpu(agent: MettaAgent) -> None:
    agent.add_module("extra_norm", nn.BatchNorm1d(2))
    wrapped = DistributedMettaAgent(agent)
    assert wrapped.device_ids is None and type(wrapped.extra_norm) is nn.BatchNorm1d

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from training_samples import SIDES, agent

from parity.agents.metta_agent import MettaAgent
from parity.training.config import OptimizerConfig
from parity.training.optimizers import Optimizer


def with_gradients(side: str) -> MettaAgent:
    policy = agent(side)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(policy.named_parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return policy


@pytest.mark.parametrize("side", SIDES)
def test_muon_takes_the_matrices_and_adamw_the_rest(side: str) -> None:
    policy = agent(side)
    muon, adamw = Optimizer(policy, OptimizerConfig(type="muon")).names
    shapes = {name: tuple(value.shape) for name, value in policy.named_parameters()}
    assert set(muon) | set(adamw) == set(shapes) and not set(muon) & set(adamw)
    # fc1, encoded_obs, critic_1, value, actor_1, the head's W, and four LSTM matrices; the embedding table is a table.
    assert sorted(shapes[name] for name in muon) == sorted(
        [(6, 10), (7, 6), (9, 8), (1, 9), (10, 8), (10, 3), (32, 7), (32, 8), (32, 8), (32, 8)]
    )
    assert [name for name in adamw if len(shapes[name]) == 2] == [name for name in shapes if "embed" in name]


@pytest.mark.parametrize("side", SIDES)
def test_muon_steps_as_torchs_optimizers_do(side: str) -> None:
    settings: dict[str, Any] = {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1}
    ours, theirs = with_gradients(side), with_gradients(side)
    optimizer = Optimizer(ours, OptimizerConfig(type="muon", **settings))
    named = dict(theirs.named_parameters())
    muon = torch.optim.Muon(
        [named[name] for name in optimizer.names[0]], lr=0.01, momentum=0.8, eps=1e-6, weight_decay=0.1
    )
    adamw = torch.optim.AdamW(
        [named[name] for name in optimizer.names[1]], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1
    )
    for _ in range(2):
        optimizer.step()
        muon.step()
        adamw.step()
    for name, value in ours.named_parameters():
        assert torch.equal(value, named[name]), name


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_state_goes_over_to_another_optimizer(kind: str) -> None:
    config = OptimizerConfig(type=kind)
    policy, other = with_gradients("candidate"), with_gradients("candidate")
    first = Optimizer(policy, config)
    first.step()
    second = Optimizer(other, config)
    other.load_state_dict(policy.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    first.step()
    second.step()
    for (name, left), right in zip(policy.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), name


def test_parameters_keep_the_policys_order_and_frozen_ones_are_left_out() -> None:
    policy = agent("candidate")
    frozen, *rest = dict(policy.named_parameters())
    policy.get_parameter(frozen).requires_grad_(False)
    assert Optimizer(policy, OptimizerConfig()).names == [rest]


def test_zero_grad_forgets_every_gradient() -> None:
    policy = with_gradients("candidate")
    Optimizer(policy, OptimizerConfig(type="muon")).zero_grad()
    assert all(parameter.grad is None for parameter in policy.parameters())

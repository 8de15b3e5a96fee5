"""Clipping, l2-init regularisation and weight metrics of the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from component_builders import SMALL, small_components
from torch import Tensor

from parity.agents.component import ComponentPolicy
from parity.agents.errors import ConfigError

CLIPPED = ("conv", "critic", "_value_")


def policy_with(clip_range: float = 0.0, **layers: dict[str, Any]) -> ComponentPolicy:
    components = small_components()
    for name, keys in layers.items():
        components[name].update(keys)
    return ComponentPolicy(SMALL, components=components, clip_range=clip_range)


def blow_up(policy: ComponentPolicy) -> dict[str, Tensor]:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(9).add_(0.01)
    return {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}


def test_only_linear_and_conv_weights_are_clipped_to_their_own_bound() -> None:
    policy = policy_with(1.5, critic={"clip_scale": 2.0})
    initial = {name: parameter.abs().max().item() for name, parameter in policy.named_parameters()}
    before = blow_up(policy)
    policy.clip_weights()
    for name, parameter in policy.named_parameters():
        layer = name.split(".")[1]
        if layer in CLIPPED and name.endswith("weight"):
            bound = 1.5 * (2.0 if layer == "critic" else 1.0) * initial[name]
            assert parameter.equal(before[name].clamp(-bound, bound)) and not parameter.equal(before[name])
        else:
            assert parameter.equal(before[name])


def test_clipping_is_idempotent_and_off_at_zero() -> None:
    off = policy_with(0.0)
    before = blow_up(off)
    off.clip_weights()
    assert all(parameter.equal(before[name]) for name, parameter in off.named_parameters())
    policy = policy_with(1.0, conv={"clip_scale": 0})
    before = blow_up(policy)
    policy.clip_weights()
    assert policy.get_parameter("components.conv.net.weight").equal(before["components.conv.net.weight"])
    once = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    policy.clip_weights()
    assert all(parameter.equal(once[name]) for name, parameter in policy.named_parameters())


def test_the_bound_is_never_rebased_and_travels_with_a_checkpoint() -> None:
    first = policy_with(1.0)
    bound = first.get_buffer("components.critic.initial_max").clone()
    blow_up(first)
    first.update_l2_init_weight_copy()
    assert first.get_buffer("components.critic.initial_max").equal(bound)
    components = small_components()
    other = ComponentPolicy(SMALL, components=components, clip_range=1.0, seed=1)
    other.load_state_dict(first.state_dict())
    other.clip_weights()
    assert other.get_parameter("components.critic.net.weight").abs().max().equal(bound)


def test_l2_init_loss_value_gradient_and_rebasing() -> None:
    policy = policy_with(critic={"l2_init_scale": 0.5}, conv={"l2_init_scale": 0})
    assert policy.l2_init_loss().item() == 0.0 and policy.l2_init_loss().dtype == torch.float32
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            parameter.add_(1.0 if "critic" in name else 2.0)
    loss = policy.l2_init_loss()
    assert loss.shape == () and loss.item() == pytest.approx(0.5 * 7 * 5 + 1.0 * 7 * 4)
    loss.backward()
    assert policy.get_parameter("components.critic.net.weight").grad is not None
    for name, parameter in policy.named_parameters():
        expected = {"components.critic.net.weight": 1.0, "components._value_.net.weight": 4.0}.get(name)
        if expected is not None:
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, expected))
        else:
            assert parameter.grad is None or not parameter.grad.any()
    policy.update_l2_init_weight_copy()
    assert policy.l2_init_loss().item() == 0.0


def test_metrics_of_the_marked_layers_against_numpy() -> None:
    policy = policy_with(conv={"analyze_weights": True})
    assert [entry["name"] for entry in policy.compute_weight_metrics()] == ["conv", "critic"]
    with torch.no_grad():
        policy.get_parameter("components.conv.net.weight").normal_(generator=torch.Generator().manual_seed(2))
    weight = policy.get_parameter("components.conv.net.weight").detach().double().numpy().reshape(3, -1)
    s = np.linalg.svd(weight, compute_uv=False)
    slope, offset = np.polyfit(np.log([1, 2, 3]), np.log(s), 1)
    residual = np.log(s) - (slope * np.log([1, 2, 3]) + offset)
    rank = next(k for k in range(1, 4) if s[:k].sum() >= 0.6 * s.sum())
    found = policy.compute_weight_metrics(delta=0.4)[0]
    assert found.pop("name") == "conv"
    assert found == pytest.approx(
        {
            "singular_value_max": s.max(),
            "singular_value_min": s.min(),
            "singular_value_mean": s.mean(),
            "singular_value_std": s.std(),
            "effective_rank": rank,
            "weight_norm": np.sqrt((weight**2).sum()),
            "power_law_exponent": -slope,
            "power_law_r2": 1 - (residual**2).sum() / (np.log(s).var() * 3),
        },
        rel=1e-9,
    )
    assert all(isinstance(value, float) for value in found.values())


def test_metrics_of_a_single_singular_value_fit_no_power_law() -> None:
    policy = policy_with(critic={"analyze_weights": False}, _value_={"analyze_weights": True})
    (found,) = policy.compute_weight_metrics()
    assert found["power_law_exponent"] == found["power_law_r2"] == 0.0
    assert found["effective_rank"] == 1.0 and found["singular_value_max"] == pytest.approx(1.0)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.5, math.nan])
def test_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match=f"delta is {delta}"):
        policy_with().compute_weight_metrics(delta)

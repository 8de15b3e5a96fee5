from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from parity.training.advantage import compute_advantages
from parity.training.config import PPOConfig, VTraceConfig
from parity.training.experience import Minibatch
from parity.training.losses import ppo_losses

N, T = 3, 4
PPO = PPOConfig(
    gamma=0.9, gae_lambda=0.8, clip_coef=0.2, vf_clip_coef=0.3, vf_coef=0.7, ent_coef=0.05, l2_init_loss_coef=0.01
)
VTRACE = VTraceConfig(vtrace_rho_clip=1.2, vtrace_c_clip=0.9)


def drawn() -> tuple[TensorDict, Minibatch]:
    generator = torch.Generator().manual_seed(2)

    def number() -> torch.Tensor:
        return torch.randn(N, T, generator=generator, dtype=torch.float64)

    flags = (torch.rand(2, N, T, generator=generator) < 0.2).float()
    evaluated = {key: number().mul_(0.5).requires_grad_() for key in ("act_log_prob", "entropy", "value")}
    minibatch = Minibatch(
        inputs=TensorDict({}, batch_size=[N, T]),
        actions=torch.zeros(N, T, 2, dtype=torch.int32),
        act_log_prob=number().mul_(0.5),
        values=number(),
        rewards=number().float(),
        dones=flags[0],
        truncateds=flags[1],
        advantages=number(),
        weights=torch.rand(N, 1, generator=generator, dtype=torch.float64) + 0.5,
        indices=torch.arange(N),
    )
    return TensorDict(evaluated, batch_size=[N, T]), minibatch  # type: ignore[arg-type]


def plain(evaluated: TensorDict, data: Minibatch, ppo: PPOConfig) -> dict[str, float]:
    """The same sums step by step, on Python numbers."""
    evaluated = evaluated.detach()
    ratio = (evaluated["act_log_prob"] - data.act_log_prob).exp().detach()
    advantages = compute_advantages(
        data.values,
        data.rewards,
        data.dones,
        data.truncateds,
        ratio,
        gamma=0.9,
        gae_lambda=0.8,
        rho_clip=1.2,
        c_clip=0.9,
    )
    every = [(n, t) for n in range(N) for t in range(T)]
    mean = sum(float(advantages[at]) for at in every) / len(every)
    std = math.sqrt(sum((float(advantages[at]) - mean) ** 2 for at in every) / (len(every) - 1))
    sums = dict.fromkeys(("policy", "value", "entropy", "approx_kl", "clipfrac"), 0.0)
    for n, t in every:
        r, a = float(ratio[n, t]), float(advantages[n, t])
        a = (a - mean) / (std + 1e-8) if ppo.norm_adv else a
        a *= float(data.weights[n])
        sums["policy"] += max(-a * r, -a * min(max(r, 0.8), 1.2))
        old, new = float(data.values[n, t]), float(evaluated["value"][n, t])
        target = float(data.advantages[n, t]) + old
        error = (new - target) ** 2
        if ppo.clip_vloss:
            error = max(error, (old + min(max(new - old, -0.3), 0.3) - target) ** 2)
        sums["value"] += 0.5 * error
        sums["entropy"] += float(evaluated["entropy"][n, t])
        sums["approx_kl"] += r - 1 - math.log(r)
        sums["clipfrac"] += abs(r - 1) > 0.2
    return {key: value / len(every) for key, value in sums.items()}


@pytest.mark.parametrize("changes", [{}, {"norm_adv": False}, {"clip_vloss": False}])
def test_every_loss_equals_a_plain_loop(changes: dict[str, Any]) -> None:
    evaluated, data = drawn()
    ppo = replace(PPO, **changes)
    losses = ppo_losses(evaluated, data, ppo, VTRACE, l2_init=torch.tensor(3.0, dtype=torch.float64))
    expected = plain(evaluated, data, ppo)
    for key, value in expected.items():
        assert float(getattr(losses, key)) == pytest.approx(value, rel=1e-12), key
    total = expected["policy"] - 0.05 * expected["entropy"] + 0.7 * expected["value"] + 0.01 * 3.0
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-12)


def test_gradients_flow_through_the_evaluation_alone() -> None:
    evaluated, data = drawn()
    losses = ppo_losses(evaluated, data, replace(PPO, norm_adv=False), VTRACE, l2_init=torch.zeros(()))
    losses.total.backward()
    # The advantage depends on the ratio too, but is a constant here; and where the surrogate is clipped nothing flows.
    ratio = (evaluated["act_log_prob"].detach() - data.act_log_prob).exp()
    weighted = data.weights * compute_advantages(
        data.values,
        data.rewards,
        data.dones,
        data.truncateds,
        ratio,
        gamma=0.9,
        gae_lambda=0.8,
        rho_clip=1.2,
        c_clip=0.9,
    )
    clipped = torch.where(weighted > 0, ratio > 1.2, ratio < 0.8)
    assert bool(clipped.any())
    expected = (-weighted * ratio).masked_fill(clipped, 0.0) / (N * T)
    torch.testing.assert_close(evaluated["act_log_prob"].grad, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(evaluated["entropy"].grad, torch.full((N, T), -0.05 / (N * T), dtype=torch.float64))
    assert all(not value.requires_grad for value in losses.detached().values())


def test_an_unchanged_policy_has_ratio_one() -> None:
    evaluated, data = drawn()
    losses = ppo_losses(
        evaluated, replace(data, act_log_prob=evaluated["act_log_prob"].detach()), PPO, VTRACE, l2_init=torch.zeros(())
    )
    assert (float(losses.ratio), float(losses.approx_kl), float(losses.clipfrac)) == (1.0, 0.0, 0.0)

"""The PPO losses of one minibatch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, VALUE
from parity.training.advantage import compute_advantages
from parity.training.config import PPOConfig, VTraceConfig
from parity.training.distributed import World
from parity.training.experience import Minibatch


@dataclass(frozen=True)
class Losses:
    """Scalars of one minibatch; only ``total`` carries a gradient.

    Attributes:
        total: ``policy - ent_coef * entropy + vf_coef * value + l2_init_loss_coef * l2_init``.
        policy: the clipped surrogate, negated.
        value: half the squared error of the values.
        entropy: mean entropy of the policy.
        l2_init: the policy's ``l2_init_loss``, 0 when its coefficient is.
        approx_kl: estimate of the divergence from the policy that acted, ``mean((ratio - 1) - log ratio)``.
        clipfrac: share of the steps whose ratio lies outside the clip range.
        ratio: mean ratio of new to old probability.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    l2_init: Tensor
    approx_kl: Tensor
    clipfrac: Tensor
    ratio: Tensor

    def detached(self) -> dict[str, Tensor]:
        """Name -> scalar without gradient, in the order above."""
        return {item.name: getattr(self, item.name).detach() for item in fields(self)}


def ppo_losses(
    evaluated: TensorDictBase,
    minibatch: Minibatch,
    ppo: PPOConfig,
    vtrace: VTraceConfig,
    *,
    l2_init: Tensor,
    world: World | None = None,
) -> Losses:
    """Losses of the policy's evaluation of a minibatch.

    The returns that values are fitted to come from the advantages that the minibatch was drawn with; the advantages in
    the surrogate are computed anew, corrected by the present ratio.

    Args:
        evaluated: ``act_log_prob``, ``entropy`` and ``value``, each ``[n, T]``, of the minibatch's actions.
        minibatch: what was stored.
        ppo: the coefficients.
        vtrace: the bounds of the correction.
        l2_init: scalar, the policy's ``l2_init_loss``.
        world: the ranks over which advantages are normalised.
    """
    log_ratio = evaluated[ACT_LOG_PROB] - minibatch.act_log_prob
    ratio = log_ratio.exp()
    advantages = compute_advantages(
        minibatch.values,
        minibatch.rewards,
        minibatch.dones,
        minibatch.truncateds,
        ratio.detach(),
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        rho_clip=vtrace.vtrace_rho_clip,
        c_clip=vtrace.vtrace_c_clip,
    )
    if ppo.norm_adv:
        advantages = _normalise(advantages, world or World())
    advantages = minibatch.weights * advantages
    clipped = ratio.clamp(1.0 - ppo.clip_coef, 1.0 + ppo.clip_coef)
    policy = torch.maximum(-advantages * ratio, -advantages * clipped).mean()

    new_values = evaluated[VALUE]
    returns = minibatch.advantages + minibatch.values
    errors = (new_values - returns).square()
    if ppo.clip_vloss:
        change = (new_values - minibatch.values).clamp(-ppo.vf_clip_coef, ppo.vf_clip_coef)
        errors = torch.maximum(errors, (minibatch.values + change - returns).square())
    value = 0.5 * errors.mean()

    entropy = evaluated[ENTROPY].mean()
    total = policy - ppo.ent_coef * entropy + ppo.vf_coef * value + ppo.l2_init_loss_coef * l2_init
    with torch.no_grad():
        return Losses(
            total=total,
            policy=policy.detach(),
            value=value.detach(),
            entropy=entropy.detach(),
            l2_init=l2_init.detach(),
            approx_kl=((ratio - 1.0) - log_ratio).mean(),
            clipfrac=((ratio - 1.0).abs() > ppo.clip_coef).to(ratio.dtype).mean(),
            ratio=ratio.mean(),
        )


def _normalise(advantages: Tensor, world: World) -> Tensor:
    """Zero mean and unit (unbiased) standard deviation over the minibatches of all ranks."""
    count = advantages.numel() * world.size
    mean = world.total(advantages.sum()) / count
    spread = world.total((advantages - mean).square().sum()) / max(count - 1, 1)
    return (advantages - mean) / (spread.sqrt() + 1e-8)

"""Faults in what the shared trainer computes: advantages, sampling and losses; and rewrites that change nothing.

Parity sees none of them: both sides train wrongly in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.builtin.faults.edits import edit, edited
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training import advantage, losses, trainer
from parity.training.experience import Experience
from parity.training.trainer import Trainer

TRACKERS = "other projects' trackers"
PPO = "PPO implementations: a detail left out"

_fault = partial(CATALOGUE.fault, place="both", check="experience")
_advantages = partial(_fault, component="advantages", phase="advantages")
_forward = partial(_fault, phase="forward")
_backward = partial(_fault, phase="backward")


def _edit_advantages(patcher: Patcher, old: str, new: str) -> None:
    _replace_advantages(patcher, edited(advantage.compute_advantages, old, new))


def _replace_advantages(patcher: Patcher, compute: Callable[..., Tensor]) -> None:
    for module in (trainer, losses):
        patcher.attribute(module, "compute_advantages", compute)


def _edit_losses(patcher: Patcher, old: str, new: str) -> None:
    changed = edited(losses.ppo_losses, old, new)
    for module in (trainer, losses):
        patcher.attribute(module, "ppo_losses", changed)


# Advantages


@_advantages(origin=f"{TRACKERS}: GAE bootstraps across done")
def gae_bootstraps_across_done(patcher: Patcher) -> None:
    """A terminated step is credited with the value of the next episode."""
    _edit_advantages(patcher, "values[:, 1:]).masked_fill(ended, 0.0)", "values[:, 1:])")


@_advantages(origin=f"{TRACKERS}: GAE bootstraps across done")
def gae_trace_crosses_episodes(patcher: Patcher) -> None:
    """What an episode comes to is carried back into the one before."""
    _edit_advantages(patcher, ".masked_fill(ended | cut, 0.0)", "")


@_advantages(origin=f"{TRACKERS}: done shifted by one step")
def done_shifted_by_one(patcher: Patcher) -> None:
    """A step counts as terminated when it opens an episode itself."""
    _edit_advantages(patcher, "dones[:, 1:]", "dones[:, :-1]")


@_advantages(origin=f"{TRACKERS}: time limits treated as failures")
def truncated_step_taken_for_done(patcher: Patcher) -> None:
    """Being cut off is worth nothing further."""
    _edit_advantages(patcher, "ended = dones[:, 1:] != 0", "ended = (dones + truncateds)[:, 1:] != 0")


@_advantages(origin=f"{TRACKERS}: time limits treated as failures")
def truncated_step_taken_for_nothing(patcher: Patcher) -> None:
    """A truncated episode is credited with the value of the next."""
    _edit_advantages(patcher, "cut = truncateds[:, 1:] != 0", "cut = dones[:, 1:] > 1")


@_advantages(origin=f"{TRACKERS}: arguments swapped")
def gamma_and_lambda_swapped(patcher: Patcher) -> None:
    """The trace decays by the discount and the value by lambda."""

    def swapped(*data: Tensor, gamma: float, gae_lambda: float, **clips: float) -> Tensor:
        return advantage.compute_advantages(*data, gamma=gae_lambda, gae_lambda=gamma, **clips)  # type: ignore[misc]

    _replace_advantages(patcher, swapped)


@_advantages(origin=f"{TRACKERS}: GAE bootstraps across segments")
def last_step_bootstraps(patcher: Patcher) -> None:
    """The last step, whose reward is not stored, is given its own value as its advantage."""
    _edit_advantages(patcher, "torch.zeros_like(values[:, 0])", "values[:, -1]")


@_advantages(origin=f"{TRACKERS}: done shifted by one step")
def reward_shifted_by_one(patcher: Patcher) -> None:
    """A step is credited with what the action before it earned."""
    _edit_advantages(patcher, "rewards[:, 1:]", "rewards[:, :-1]")


# Sampling


@_fault(origin=PPO, component="sampling probabilities", phase="advantages")
def sampling_always_uniform(patcher: Patcher) -> None:
    """The priority exponent never arrives."""
    edit(patcher, Experience, "probabilities", ".pow(alpha)", ".pow(0.0)")


@_forward(origin=PPO, component="indices")
def draws_ignore_the_probabilities(patcher: Patcher) -> None:
    """Every segment is as likely to be drawn as any other."""
    edit(patcher, Experience, "draw", "(probabilities, count", "(torch.ones_like(probabilities), count")


@_forward(origin="upstream: importance weights are not normalised", component="importance weights")
def importance_weights_normalised(patcher: Patcher) -> None:
    """The largest importance weight of a minibatch is 1."""
    edit(patcher, Experience, "minibatch", "weights.to(self.device)", "(weights / weights.max()).to(self.device)")


@_forward(origin=PPO, component="importance weights")
def beta_not_annealed(patcher: Patcher) -> None:
    """The importance exponent stays where it starts."""
    edit(patcher, Trainer, "_weigh", "(1.0 - priorities.prio_beta0) * progress", "0.0 * progress")


@_fault(origin=f"{TRACKERS}: seeds silently constant", component="seed", phase="rollout")
def seed_silently_constant(patcher: Patcher) -> None:
    """Whatever the configuration's seed, everything is drawn from one."""

    def make(derive: Callable[[int, str], int]) -> Callable[[int, str], int]:
        return lambda seed, purpose: derive(0, purpose)

    patcher.wrap(trainer, "derived_seed", make)


@_fault(origin=f"{TRACKERS}: seeds silently constant", component="seed", phase="rollout")
def minibatches_drawn_alike_in_every_update(patcher: Patcher) -> None:
    """The generator of minibatches begins anew with every rollout."""

    def make(reset: Callable[[Experience], None]) -> Callable[[Experience], None]:
        def again(self: Experience) -> None:
            reset(self)
            self.generator.manual_seed(self.generator.initial_seed())

        return again

    patcher.wrap(Experience, "reset", make)


# Losses


@_forward(origin=f"{TRACKERS}: entropy sign", component="total loss")
def entropy_sign(patcher: Patcher) -> None:
    """Entropy is punished."""
    _edit_losses(patcher, "policy - ppo.ent_coef", "policy + ppo.ent_coef")


@_forward(origin=PPO, component="total loss")
def value_coefficient_dropped(patcher: Patcher) -> None:
    """The value loss counts in full."""
    _edit_losses(patcher, "ppo.vf_coef * value", "value")


@_forward(origin="upstream history: l2-init loss", component="total loss")
def l2_init_loss_left_out(patcher: Patcher) -> None:
    """The pull to the initial weights is computed and forgotten."""
    _edit_losses(patcher, " + ppo.l2_init_loss_coef * l2_init", "")


@_forward(origin=f"{TRACKERS}: value clip dropped", component="value loss")
def value_clip_dropped(patcher: Patcher) -> None:
    """The value loss is never clipped."""
    _edit_losses(patcher, "if ppo.clip_vloss", "if False")


@_forward(origin=PPO, component="value loss")
def returns_corrected_by_the_ratio(patcher: Patcher) -> None:
    """Values are fitted to the advantages of the surrogate."""
    _edit_losses(patcher, "returns = minibatch.advantages", "returns = advantages")


@_forward(origin=f"{TRACKERS}: advantage normalised per row", component="policy loss")
def advantages_normalised_per_row(patcher: Patcher) -> None:
    """Each segment's advantages have zero mean and unit deviation."""

    def by_row(advantages: Tensor, _world: Any) -> Tensor:
        return (advantages - advantages.mean(1, keepdim=True)) / (advantages.std(1, keepdim=True) + 1e-8)

    patcher.attribute(losses, "_normalise", by_row)


@_forward(origin=f"{TRACKERS}: advantage not normalised", component="policy loss")
def advantages_not_normalised(patcher: Patcher) -> None:
    """The surrogate takes the advantages as they are."""
    patcher.attribute(losses, "_normalise", lambda advantages, _world: advantages)


@_forward(origin=PPO, component="policy loss")
def importance_weights_not_applied(patcher: Patcher) -> None:
    """Segments count alike, however likely they were."""
    _edit_losses(patcher, "advantages = minibatch.weights * advantages", "pass")


@_forward(origin=PPO, component="policy loss")
def advantages_not_corrected(patcher: Patcher) -> None:
    """The surrogate's advantages are those of the policy that acted."""
    _edit_losses(patcher, "ratio.detach()", "torch.ones_like(ratio)")


@_forward(origin=f"{TRACKERS}: clip range never arrives", component="policy loss")
def surrogate_never_clipped(patcher: Patcher) -> None:
    """The ratio is not held within its range."""
    _edit_losses(patcher, "ratio.clamp(1.0 - ppo.clip_coef, 1.0 + ppo.clip_coef)", "ratio")


@_backward(origin=f"{TRACKERS}: ratio inverted", component="act_log_prob gradient")
def ratio_inverted(patcher: Patcher) -> None:
    """Old over new: at first nothing shows it but the gradient."""
    _edit_losses(
        patcher,
        "evaluated[ACT_LOG_PROB] - minibatch.act_log_prob",
        "minibatch.act_log_prob - evaluated[ACT_LOG_PROB]",
    )


@_backward(origin=PPO, component="entropy gradient")
def entropy_detached(patcher: Patcher) -> None:
    """The entropy is in the loss, and its gradient is not."""
    _edit_losses(patcher, "evaluated[ENTROPY].mean()", "evaluated[ENTROPY].detach().mean()")


@_backward(origin="upstream history: l2-init loss without gradient", component="l2_init gradient")
def l2_init_loss_detached(patcher: Patcher) -> None:
    """The pull to the initial weights is in the loss, and its gradient is not."""
    edit(patcher, Trainer, "_losses", "self.policy.l2_init_loss() if", "self.policy.l2_init_loss().detach() if")


@_forward(origin=f"{TRACKERS}: log-probs recomputed after the update", component="minibatch")
def log_probs_recomputed_after_the_update(patcher: Patcher) -> None:
    """The experience takes over the log-probabilities of the policy that learns, so the next epoch's ratio is 1."""
    edit(
        patcher,
        Trainer,
        "_losses",
        "pulled =",
        "self.experience.buffer[ACT_LOG_PROB][minibatch.indices] = evaluated[ACT_LOG_PROB].detach()\n    pulled =",
    )


# Rewrites that change nothing


@CATALOGUE.control(why="the same recursion, a step at a time")
def advantages_step_by_step(patcher: Patcher) -> None:
    """Advantages are filled into a tensor that was made before, from the last step back, masks as factors."""

    def compute(
        values: Tensor,
        rewards: Tensor,
        dones: Tensor,
        truncateds: Tensor,
        importance_ratio: Tensor,
        *,
        gamma: float,
        gae_lambda: float,
        rho_clip: float = 1.0,
        c_clip: float = 1.0,
    ) -> Tensor:
        result = torch.zeros_like(values)
        for t in reversed(range(values.shape[1] - 1)):
            going_on = (dones[:, t + 1] == 0).to(values.dtype)
            cut = truncateds[:, t + 1] != 0
            following = torch.where(cut, values[:, t], values[:, t + 1]) * going_on
            ratio = importance_ratio[:, t]
            error = rewards[:, t + 1] - values[:, t] + gamma * following
            trace = result[:, t + 1] * going_on * (~cut).to(values.dtype)
            result[:, t] = ratio.clamp(max=rho_clip) * error + ratio.clamp(max=c_clip) * gae_lambda * gamma * trace
        return result

    _replace_advantages(patcher, compute)


@CATALOGUE.control(why="a sum's order changes its rounding only")
def surrogate_summed_in_another_order(patcher: Patcher) -> None:
    """The surrogate is averaged by steps, from the last row."""
    _edit_losses(patcher, "-advantages * clipped).mean()", "-advantages * clipped).flip(0).mean(0).mean()")

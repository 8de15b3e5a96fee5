"""Faults in weight clipping and in the l2-init loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.stages import Stage
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

DOCUMENTS = "the documents: weight clipping as the candidate first had it"
UPSTREAM = "upstream history: weight clipping and the l2-init loss"
RED_TEAM = "a mutant of the candidate that no check saw"

# Clipping


@CATALOGUE.fault(origin=DOCUMENTS, check="clipping", component="cnn1", phase="clip")
def clip_weights_missing(patch: Patcher) -> None:
    """Clipping does nothing."""
    patch.attribute(Fast, "clip_weights", lambda self: None)


def _clip(patch: Patcher, clamp: Callable[[Stage, float], None]) -> None:
    """Clip each stage by ``clamp(stage, scale)`` instead, where its scale is not 0."""

    @torch.no_grad()
    def clip(self: Stage, clip_range: float) -> None:
        scale = clip_range * self.settings.clip_scale
        if scale > 0.0:
            clamp(self, scale)

    patch.attribute(Stage, "clip", clip)


@CATALOGUE.fault(origin=DOCUMENTS, check="clipping", component="cnn1", phase="clip")
def biases_clipped_too(patch: Patcher) -> None:
    """Each layer's bias is clamped along with its weight."""

    def clamp(stage: Stage, scale: float) -> None:
        for parameter in stage.parameters():
            bound = scale * stage.initial_max
            parameter.clamp_(-bound, bound)

    _clip(patch, clamp)


@CATALOGUE.fault(origin=DOCUMENTS, check="clipping", component="cnn1", phase="clip")
def clipped_by_an_absolute_bound(patch: Patcher) -> None:
    """Weights are clamped to the clip range itself, not to it times the largest initial weight."""

    def clamp(stage: Stage, scale: float) -> None:
        stage.weight.clamp_(-scale, scale)

    _clip(patch, clamp)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="cnn1", phase="clip")
def clip_bound_from_the_current_weights(patch: Patcher) -> None:
    """The bound is taken from the weight as it is now, so it grows along."""

    def clamp(stage: Stage, scale: float) -> None:
        bound = scale * stage.weight.abs().max()
        stage.weight.clamp_(-bound, bound)

    _clip(patch, clamp)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="cnn1", phase="clip")
def clipped_on_one_side(patch: Patcher) -> None:
    """Only the upper bound is enforced."""

    def clamp(stage: Stage, scale: float) -> None:
        torch.minimum(stage.weight, scale * stage.initial_max, out=stage.weight)

    _clip(patch, clamp)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="cnn1", phase="clip")
def convolutions_not_clipped(patch: Patcher) -> None:
    """Only Linear layers are clipped."""

    def clamp(stage: Stage, scale: float) -> None:
        bound = scale * stage.initial_max
        if isinstance(stage[0], nn.Linear):
            stage.weight.clamp_(-bound, bound)

    _clip(patch, clamp)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="fc1", phase="clip")
def clip_scale_of_one_layer_ignored(patch: Patcher) -> None:
    """A layer's clip_scale does not arrive."""

    def change(agent: Any) -> None:
        stage = agent.policy.fc1
        stage.settings = dataclasses.replace(stage.settings, clip_scale=1.0)

    patch.built("candidate", change)


def _clip_also(patch: Patcher, more: Callable[[Fast], None]) -> None:
    """After the layers, clip more."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        @torch.no_grad()
        def clip_weights(self: Fast) -> None:
            original(self)
            more(self)

        return clip_weights

    patch.wrap(Fast, "clip_weights", make)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="_core_", phase="clip")
def lstm_clipped_too(patch: Patcher) -> None:
    """The recurrent weights are clamped."""

    def more(policy: Fast) -> None:
        for parameter in policy.core.parameters() if policy.clip_range > 0 else ():
            parameter.clamp_(-policy.clip_range, policy.clip_range)

    _clip_also(patch, more)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="_action_embeds_", phase="clip")
def embedding_clipped_too(patch: Patcher) -> None:
    """The action embeddings are clamped."""

    def more(policy: Fast) -> None:
        if policy.clip_range > 0:
            policy.action_embeds.weight.clamp_(-policy.clip_range, policy.clip_range)

    _clip_also(patch, more)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="cnn1", phase="clip")
def clip_range_0_clips_to_0(patch: Patcher) -> None:
    """A clip range of 0 is a bound like any other, and wipes the weights out."""

    def more(policy: Fast) -> None:
        for stage in policy.stages() if policy.clip_range == 0 else ():
            stage.weight.clamp_(0.0, 0.0)

    _clip_also(patch, more)


# The l2-init loss


def _add_to_loss(patch: Patcher, more: Callable[[Fast], Tensor]) -> None:
    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self: original(self) + more(self)

    patch.wrap(Fast, "l2_init_loss", make)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_loss_includes_biases(patch: Patcher) -> None:
    """Biases are pulled to their start, 0, as well."""

    def biases(policy: Fast) -> Tensor:
        found = [
            parameter for stage in policy.stages() for name, parameter in stage.named_parameters() if "bias" in name
        ]
        return torch.stack([bias.square().sum() for bias in found]).sum()

    _add_to_loss(patch, biases)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_loss_includes_the_action_head(patch: Patcher) -> None:
    """The action head is pulled along with the layers."""
    _add_to_loss(patch, lambda policy: policy.action_head.W.square().sum())


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss is differentiable",
                 phase="backward")  # fmt: skip
def l2_init_loss_without_gradient(patch: Patcher) -> None:
    """The loss is a bare number."""
    patch.wrap(Fast, "l2_init_loss", torch.no_grad())


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_loss_is_a_mean(patch: Patcher) -> None:
    """Each layer contributes its mean squared distance, not the sum."""

    def l2_init_loss(self: Stage) -> Tensor:
        return self.settings.l2_init_scale * (self.weight - self.l2_anchor).square().mean()

    patch.attribute(Stage, "l2_init_loss", l2_init_loss)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_scale_ignored(patch: Patcher) -> None:
    """All layers are pulled with strength 1."""
    patch.attribute(Stage, "l2_init_loss", lambda self: (self.weight - self.l2_anchor).square().sum())


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_never_rebased(patch: Patcher) -> None:
    """Re-basing leaves the start where it was."""
    patch.attribute(Stage, "rebase", lambda self: None)


@CATALOGUE.fault(origin=UPSTREAM, check="clipping", component="l2_init_loss", phase="forward")
def l2_init_rebased_to_the_live_weight(patch: Patcher) -> None:
    """Re-basing stores the weight itself instead of a copy, so that the loss stays 0."""

    def rebase(self: Stage) -> None:
        self.l2_anchor = self.weight.detach()

    patch.attribute(Stage, "rebase", rebase)


@CATALOGUE.fault(origin="a mutant of the candidate", check="clipping", component="l2_init_loss", phase="forward")
def l2_init_starts_at_the_live_weight(patch: Patcher) -> None:
    """The start is a view of the weight from the beginning; a deep copy of the agent must not part the two."""

    def make(init: Callable[..., None]) -> Callable[..., None]:
        def __init__(self: Stage, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            self.l2_anchor = self.weight.detach()

        return __init__

    patch.wrap(Stage, "__init__", make)


@CATALOGUE.fault(origin=RED_TEAM, check="clipping", component="l2_init_loss", phase="forward")
def rebasing_moves_the_clip_bound(patch: Patcher) -> None:
    """Re-basing the start makes the current weights the unit of clipping as well."""

    def make(rebase: Callable[..., None]) -> Callable[..., None]:
        def rebase_all(self: Stage) -> None:
            rebase(self)
            self.initial_max.copy_(self.weight.detach().abs().max())

        return rebase_all

    patch.wrap(Stage, "rebase", make)


@CATALOGUE.fault(origin=RED_TEAM, check="clipping", component="l2_init_loss", phase="forward")
def clipping_moves_the_start(patch: Patcher) -> None:
    """The start that the l2-init loss pulls to is clamped along with the weight."""

    def clamp(stage: Stage, scale: float) -> None:
        bound = scale * float(stage.initial_max)
        stage.weight.clamp_(-bound, bound)
        stage.l2_anchor.clamp_(-bound, bound)

    _clip(patch, clamp)

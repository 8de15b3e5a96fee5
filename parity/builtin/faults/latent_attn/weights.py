"""Faults in the encoders' sizes and initial weights, in clipping and pulling them, and in the weight metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parity.agents.pytorch import attention, pytorch_agent_mixin, stages
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.latent_attn import LatentAttnTiny
from parity.agents.pytorch.stages import Stage
from parity.agents.pytorch.weights import weight_metrics
from parity.builtin.faults.changes import with_gain, with_sizes
from parity.builtin.faults.latent_attn.catalogues import SMALL, TINY
from parity.faults.plant import Patcher

SIZES = "upstream history: sizes written into the agent"
INITIAL = "upstream history: initial weights of hand-written agents"
CLIPPING = "upstream history: weight clipping and the l2-init loss"
METRICS = "upstream history: which weights are measured, and how"
CROSS, SELF = "obs_latent_query_attn", "obs_latent_self_attn"

_built = partial(TINY.fault, check="construction", component=CROSS, phase="build")
_drawn = partial(TINY.fault, check="initialization", component=CROSS, phase="build")
_clipped = partial(TINY.fault, origin=CLIPPING, check="clipping", phase="clip")
_pulled = partial(TINY.fault, origin=CLIPPING, check="clipping", component="l2_init_loss", phase="forward")


# Sizes


@_built(origin=SIZES)
def mlp_ratio_written_out(patch: Patcher) -> None:
    """MLPs are 4 times as wide as the queries whatever mlp_ratio says."""

    def make(read: Callable[..., dict[str, Component]]) -> Callable[..., dict[str, Component]]:
        def misread(*args: Any, **kwargs: Any) -> dict[str, Component]:
            parts = read(*args, **kwargs)
            return {**parts, CROSS: dataclasses.replace(parts[CROSS], ratios={"mlp_ratio": 4.0})}

        return misread

    patch.wrap(pytorch_agent_mixin, "read_graph", make)


@_built(origin=SIZES)
def query_width_written_out(patch: Patcher) -> None:
    """Queries are 32 wide whatever query_token_dim says."""
    with_sizes(patch, CROSS, query_token_dim=lambda _: 32)


# Initial weights


@_drawn(origin="upstream history: init gain sqrt(2) where 1 is right")
def encoder_drawn_with_gain_sqrt_2(patch: Patcher) -> None:
    """The encoder's Linear weights are drawn with gain sqrt(2)."""
    with_gain(patch, math.sqrt(2.0), CROSS)


@_drawn(origin="other projects' trackers: seeds silently constant")
def encoder_drawn_from_one_stream(patch: Patcher) -> None:
    """The Linear weights of the encoder all start the same stream, so that equal shapes start equal."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda shape, **options: original(shape, **{**options, "role": "weight"})

    patch.wrap(stages, "draw_orthogonal", make)


@_drawn(origin=INITIAL)
def queries_drawn_with_deviation_1(patch: Patcher) -> None:
    """Query tokens start 50 times as large."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda shape, **options: original(shape, **{**options, "std": 1.0})

    patch.wrap(attention, "draw_truncated_normal", make)


@_drawn(origin=INITIAL)
def norms_start_at_0(patch: Patcher) -> None:
    """The MLP's norm starts with weight 0, as residual branches in other projects do."""

    def change(agent: Any) -> None:
        for layer in agent.policy.cross_attention.layers:
            nn.init.zeros_(layer.mlp_norm.weight)

    patch.built("candidate", change)


# Clipping and pulling


def _of_encoder(stage: Stage) -> bool:
    return stage.settings.kind in ("ObsLatentAttn", "ObsSelfAttn")


@_clipped(component=CROSS)
def encoder_not_clipped(patch: Patcher) -> None:
    """Only layers that are components of their own are clipped."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, clip_range: None if _of_encoder(self) else original(self, clip_range)

    patch.wrap(Stage, "clip", make)


@_clipped(component=CROSS)
def encoder_clipped_by_its_largest_weight(patch: Patcher) -> None:
    """One bound, of the largest weight of all, holds for every Linear of the encoder."""

    def change(agent: Any) -> None:
        found = [stage for stage in agent.policy.stages() if _of_encoder(stage)]
        largest = torch.stack([stage.initial_max for stage in found]).max()
        for stage in found:
            stage.initial_max.copy_(largest)

    patch.built("candidate", change)


def _clip_also(patch: Patcher, more: Callable[[Any], list[Tensor]]) -> None:
    """After the layers, clamp the parameters ``more(policy)`` to the clip range."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        @torch.no_grad()
        def clip_weights(self: LatentAttnTiny) -> None:
            original(self)
            for parameter in more(self) if self.clip_range > 0 else ():
                parameter.clamp_(-self.clip_range, self.clip_range)

        return clip_weights

    patch.wrap(LatentAttnTiny, "clip_weights", make)


@_clipped(component=CROSS)
def norms_clipped_too(patch: Patcher) -> None:
    """The norms' weights are clamped."""

    def norms(policy: Any) -> list[Tensor]:
        return [module.weight for module in policy.modules() if isinstance(module, nn.LayerNorm)]

    _clip_also(patch, norms)


@_clipped(component="obs_fourier")
def attributes_clipped_too(patch: Patcher) -> None:
    """The feature embeddings are clamped."""
    _clip_also(patch, lambda policy: [policy.fourier.attr_embeds.weight])


@SMALL.fault(origin=CLIPPING, check="clipping", component=SELF, phase="clip")
def clip_scale_of_self_attention_ignored(patch: Patcher) -> None:
    """The component's clip_scale reaches none of its layers."""

    def change(agent: Any) -> None:
        for stage in agent.policy.stages():
            if stage.settings.name == SELF:
                stage.settings = dataclasses.replace(stage.settings, clip_scale=1.0)

    patch.built("candidate", change)


@_pulled()
def encoder_not_pulled(patch: Patcher) -> None:
    """The l2-init loss leaves the encoder's weights out."""

    def l2_init_loss(self: LatentAttnTiny) -> Tensor:
        return torch.stack([stage.l2_init_loss() for stage in self.stages() if not _of_encoder(stage)]).sum()

    patch.attribute(LatentAttnTiny, "l2_init_loss", l2_init_loss)


@_pulled()
def queries_pulled_too(patch: Patcher) -> None:
    """The l2-init loss pulls the query tokens to 0."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self: original(self) + self.cross_attention.query_tokens.square().sum()

    patch.wrap(LatentAttnTiny, "l2_init_loss", make)


@TINY.fault(origin=METRICS, check="weight_metrics", component="layers", phase="metrics")
def encoder_measured_too(patch: Patcher) -> None:
    """The weight metrics hold the encoder's weights beside the marked layers."""

    def compute_weight_metrics(self: LatentAttnTiny, delta: float = 0.01) -> list[dict[str, float | str]]:
        marked = [stage for stage in self.stages() if _of_encoder(stage) or stage.settings.analyze_weights]
        return [weight_metrics(stage.settings.name, stage.weight, delta) for stage in marked]

    patch.attribute(LatentAttnTiny, "compute_weight_metrics", compute_weight_metrics)

"""Faults in the layers of both branches and in the core: sizes, initial weights, activations, clipping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.agents.pytorch import example, stages
from parity.agents.pytorch.example import Example
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.stages import Stage
from parity.builtin.faults.changes import NudgedLinear, become, drop_activation, with_gain, with_sizes
from parity.builtin.faults.example.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: ReLU missing after any one layer"
SIZES = "upstream history: sizes written into the agent"
INITIAL = "upstream history: initial weights of hand-written agents"
CLIPPING = "upstream history: weight clipping and the l2-init loss"

_built = partial(CATALOGUE.fault, origin=SIZES, check="construction", phase="build")
_drawn = partial(CATALOGUE.fault, origin=INITIAL, check="initialization", phase="build")


# Activations


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="center_fc", phase="forward")
def relu_missing_after_center_fc(patch: Patcher) -> None:
    """The centre's features are not rectified."""
    patch.built("candidate", drop_activation("center_fc"))


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="fc1", phase="forward")
def relu_missing_before_the_merge(patch: Patcher) -> None:
    """The surroundings' features are not rectified."""
    patch.built("candidate", drop_activation("fc1"))


@CATALOGUE.fault(origin="the smallest error that a weight copy cannot erase", check="forward", component="center_fc",
                 phase="forward")  # fmt: skip
def one_weight_of_center_fc_one_ulp_off(patch: Patcher) -> None:
    """The forward pass uses one weight a single float32 ulp larger than the parameter says."""
    patch.built("candidate", become("center_fc.0", NudgedLinear))


# Sizes


@_built(component="_core_")
def hidden_size_512_written_out(patch: Patcher) -> None:
    """The LSTM is 512 wide whatever the YAML says."""
    with_sizes(patch, "_core_", hidden_size=lambda _: 512)


@_built(component="_core_")
def core_sized_for_256_and_256(patch: Patcher) -> None:
    """The core takes 512 numbers whatever the two branches give."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, settings, _encoded, **drawn: original(self, settings, 512, **drawn)

    patch.wrap(LSTMWrapper, "build_core", make)


@_built(component="center_fc")
def center_fc_width_written_out(patch: Patcher) -> None:
    """The centre's layer has 256 outputs whatever out_features says."""
    with_sizes(patch, "center_fc", out_features=lambda _: 256)


@_built(component="center_fc")
def center_fc_takes_25_features(patch: Patcher) -> None:
    """The centre's layer is built for the default environment's features."""

    def make(original: Callable[..., Stage]) -> Callable[..., Stage]:
        def linear_stage(settings: Any, in_features: int, **drawn: Any) -> Stage:
            return original(settings, 25 if settings.name == "center_fc" else in_features, **drawn)

        return linear_stage

    patch.wrap(example, "linear_stage", make)


# Initial weights


@_drawn(component="center_fc")
def center_fc_drawn_with_gain_sqrt_2(patch: Patcher) -> None:
    """The centre's layer is drawn with gain sqrt(2)."""
    with_gain(patch, math.sqrt(2.0), "center_fc")


@_drawn(component="center_fc")
def center_fc_drawn_as_fc1(patch: Patcher) -> None:
    """The centre's layer draws from the stream of the other branch's."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def draw(shape: torch.Size, *, component: str, **options: Any) -> Tensor:
            return original(shape, component="fc1" if component == "center_fc" else component, **options)

        return draw

    patch.wrap(stages, "draw_orthogonal", make)


# Clipping and pulling


@CATALOGUE.fault(origin=CLIPPING, check="clipping", component="center_fc", phase="clip")
def center_fc_not_clipped(patch: Patcher) -> None:
    """The centre's layer is forgotten when weights are clipped."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, clip_range: None if self.settings.name == "center_fc" else original(self, clip_range)

    patch.wrap(Stage, "clip", make)


@CATALOGUE.fault(origin=CLIPPING, check="clipping", component="center_fc", phase="clip")
def center_fc_clipped_like_fc1(patch: Patcher) -> None:
    """The centre's layer takes the other branch's clip_scale."""

    def change(agent: Any) -> None:
        first, second = agent.policy.fc1, agent.policy.center_fc
        second.settings = dataclasses.replace(second.settings, clip_scale=first.settings.clip_scale)

    patch.built("candidate", change)


@CATALOGUE.fault(origin=CLIPPING, check="clipping", component="l2_init_loss", phase="forward")
def center_fc_not_pulled(patch: Patcher) -> None:
    """The l2-init loss leaves the centre's layer out."""

    def l2_init_loss(self: Example) -> Tensor:
        return torch.stack([stage.l2_init_loss() for stage in self.stages() if stage is not self.center_fc]).sum()

    patch.attribute(Example, "l2_init_loss", l2_init_loss)

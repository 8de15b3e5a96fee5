"""Faults in what is known of a token: its feature's embedding, the waves of its place, the order of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.agents.pytorch import tokens
from parity.agents.pytorch.tokens import FourierTokens
from parity.builtin.faults.changes import with_sizes
from parity.builtin.faults.latent_attn.catalogues import TINY
from parity.faults.plant import Patcher

FEATURES = "upstream history: Fourier features of the coordinates"
SIZES = "upstream history: sizes written into the agent"
EMBEDDINGS = "upstream history: initial weights of hand-written agents"
COMPONENT = "obs_fourier"

_of_waves = partial(TINY.fault, check="forward", component=COMPONENT, phase="forward")


def _change(patch: Patcher, change: Callable[[FourierTokens], object]) -> None:
    """Change the module of each candidate as it was built."""

    def hook(agent: Any) -> None:
        change(agent.policy.fourier)

    patch.built("candidate", hook)


def _change_waves(patch: Patcher, change: Callable[[FourierTokens, Tensor], Tensor]) -> None:
    """Pass cos x, sin x, cos y, sin y of each byte, ``[256, 4f]``, through ``change(module, waves)``."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self: change(self, original(self))

    patch.wrap(FourierTokens, "_waves", make)


# Frequencies


@_of_waves(origin=FEATURES)
def frequencies_times_pi(patch: Patcher) -> None:
    """The argument has the factor pi that many Fourier features have."""
    _change(patch, lambda module: module.frequencies.mul_(math.pi))


@_of_waves(origin=FEATURES)
def frequencies_count_up(patch: Patcher) -> None:
    """The frequencies are 1, 2, 3, ... instead of 1, 2, 4, ..."""
    _change(patch, lambda module: module.frequencies.copy_(torch.arange(1, len(module.frequencies) + 1)))


# Order


@_of_waves(origin=FEATURES)
def sines_before_cosines(patch: Patcher) -> None:
    """Of each axis the sines come first."""
    _change_waves(patch, lambda _, waves: torch.cat([waves.chunk(4, 1)[part] for part in (1, 0, 3, 2)], dim=1))


@_of_waves(origin=FEATURES)
def cosines_and_sines_interleaved(patch: Patcher) -> None:
    """Cosine and sine of one frequency stand side by side."""

    def change(_: FourierTokens, waves: Tensor) -> Tensor:
        return waves.view(len(waves), 2, 2, -1).transpose(2, 3).flatten(1)

    _change_waves(patch, change)


@_of_waves(origin="upstream history: x and y swapped")
def y_before_x(patch: Patcher) -> None:
    """The waves of y come first."""
    _change_waves(patch, lambda _, waves: waves.roll(waves.shape[1] // 2, dims=1))


@_of_waves(origin=FEATURES)
def value_before_the_waves(patch: Patcher) -> None:
    """The value stands in front instead of last."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(self: FourierTokens, *given: Tensor) -> tuple[Tensor, Tensor]:
            features, mask = original(self, *given)
            return features.roll(1, dims=-1), mask

        return forward

    patch.wrap(FourierTokens, "forward", make)


# Scaling


@_of_waves(origin="upstream history: hard-coded 11x11")
def scaled_over_11_cells(patch: Patcher) -> None:
    """Places are scaled over 11 cells whatever the observation's size."""
    _change(patch, lambda module: setattr(module, "last", (10, 10)))


@_of_waves(origin=FEATURES)
def scaled_by_the_number_of_cells(patch: Patcher) -> None:
    """Places are divided by the width instead of the last cell's number."""
    _change(patch, lambda module: setattr(module, "last", tuple(last + 1 for last in module.last)))


@_of_waves(origin="upstream history: x and y swapped")
def width_and_height_exchanged(patch: Patcher) -> None:
    """The scaling of x takes the height, and that of y the width; no square observation shows it."""
    _change(patch, lambda module: setattr(module, "last", module.last[::-1]))


@_of_waves(origin=FEATURES)
def scaled_to_0_and_1(patch: Patcher) -> None:
    """Places are scaled to [0, 1] instead of [-1, 1]."""

    def waves(self: FourierTokens) -> Tensor:
        axes = [self.places[:, axis] / max(last, 1) for axis, last in enumerate(self.last)]
        angles = [axis[:, None] * self.frequencies for axis in axes]
        return torch.cat([wave for angle in angles for wave in (angle.cos(), angle.sin())], dim=1)

    patch.attribute(FourierTokens, "_waves", waves)


@_of_waves(origin="other projects' trackers: float32 where the policy's dtype is meant")
def waves_kept_in_float32(patch: Patcher) -> None:
    """The table of waves is a float32 one."""
    _change_waves(patch, lambda _, waves: waves.float().to(waves.dtype))


@TINY.fault(origin=SIZES, check="construction", component="obs_latent_query_attn", phase="build")
def number_of_frequencies_written_out(patch: Patcher) -> None:
    """There are 4 frequencies whatever num_freqs says; the layers behind have another number of inputs."""
    with_sizes(patch, COMPONENT, num_freqs=lambda _: 4)


# The feature's embedding


@TINY.fault(origin=EMBEDDINGS, check="initialization", component=COMPONENT, phase="build")
def row_of_unknown_features_not_zero(patch: Patcher) -> None:
    """Row 255 keeps what was drawn for it."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def build(self: FourierTokens, *given: Any, **drawn: Any) -> None:
            original(self, *given, **drawn)
            with torch.no_grad():
                self.attr_embeds.weight[255] = self.attr_embeds.weight[254]

        return build

    patch.wrap(FourierTokens, "__init__", make)


@TINY.fault(origin=EMBEDDINGS, check="initialization", component=COMPONENT, phase="build")
def attributes_drawn_with_deviation_1(patch: Patcher) -> None:
    """Embeddings start 50 times as large, as torch's own do."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda shape, **options: original(shape, **{**options, "std": 1.0})

    patch.wrap(tokens, "draw_truncated_normal", make)


@TINY.fault(origin="other projects' trackers: one parameter frozen", check="gradients", component=COMPONENT,
            phase="backward")  # fmt: skip
def attributes_detached(patch: Patcher) -> None:
    """Embeddings are looked up without recording gradients."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(self: FourierTokens, *given: Tensor) -> tuple[Tensor, Tensor]:
            features, mask = original(self, *given)
            width = self.attr_embeds.embedding_dim
            return torch.cat((features[..., :width].detach(), features[..., width:]), dim=-1), mask

        return forward

    patch.wrap(FourierTokens, "forward", make)

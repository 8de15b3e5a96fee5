"""Linear and convolution stages: a layer, its activation, and what clipping and l2-init need to remember."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.errors import ConfigError
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.weights import draw_orthogonal


class ValidConv2d(nn.Conv2d):
    """A convolution without padding; where the kernel covers the whole input it is computed as the Linear it then is.

    The matrix product takes less than half the time of the convolution's backward pass on the CPU. The input comes
    channels-last from the convolution before and the weight is kept so: both are used as they lie, without a copy.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[N, C, W, H]`` -> ``[N, C', W', H']``."""
        if input.shape[2:] != self.weight.shape[2:]:
            return super().forward(input)
        input, weight = input.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1)
        return functional.linear(input.flatten(1), weight.flatten(1), self.bias)[:, :, None, None]


class Stage(nn.Sequential):
    """A layer and its activation, initialised for ``settings`` from ``seed``.

    ``layer`` is on the meta device, where torch's own initialisation draws nothing from the global generator, and is
    given its parameters here.
    ``role`` is the weight's name inside the component: an encoder has several.
    Buffers: ``initial_max`` (largest |weight| at construction, the unit of clipping, never re-based) and
    ``l2_anchor`` (the weight that the l2-init loss pulls towards).
    """

    initial_max: Tensor
    l2_anchor: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, settings: Component, *, seed: int, role: str = "weight") -> None:
        super().__init__(layer)
        gain = 1.0
        if settings.nonlinearity == "nn.ReLU":
            self.append(nn.ReLU())
        elif settings.nonlinearity == "nn.Tanh":
            self.append(nn.Tanh())
            gain = math.sqrt(2.0)
        self.settings = settings
        dtype = layer.weight.dtype
        drawn = draw_orthogonal(layer.weight.shape, gain=gain, seed=seed, component=settings.name, role=role)
        if drawn.dim() == 4:
            drawn = drawn.contiguous(memory_format=torch.channels_last)
        layer.weight = nn.Parameter(drawn.to(dtype))
        if layer.bias is not None:
            layer.bias = nn.Parameter(torch.zeros(layer.bias.shape, dtype=dtype))
        self.register_buffer("initial_max", layer.weight.detach().abs().max())
        self.register_buffer("l2_anchor", layer.weight.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The layer's weight, the one parameter that clipping and l2-init concern."""
        layer = self[0]
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        return layer.weight

    @torch.no_grad()
    def clip(self, clip_range: float) -> None:
        """Clamp the weight in place to ``clip_range * clip_scale * initial_max``; nothing when that scale is 0."""
        scale = clip_range * self.settings.clip_scale
        if scale > 0.0:
            bound = scale * float(self.initial_max)  # clamping by a tensor takes several times as long
            self.weight.clamp_(-bound, bound)

    def l2_init_loss(self) -> Tensor:
        """Scalar: ``l2_init_scale`` times the squared distance to the anchor."""
        return self.settings.l2_init_scale * (self.weight - self.l2_anchor).square().sum()

    @torch.no_grad()
    def rebase(self) -> None:
        """Make the current weight the anchor."""
        self.l2_anchor.copy_(self.weight)


def linear_stage(settings: Component, in_features: int, *, seed: int, dtype: torch.dtype) -> Stage:
    """A ``Linear`` component over ``[N, in_features]``."""
    empty = nn.Linear(in_features, settings.sizes["out_features"], dtype=dtype, device="meta")
    return Stage(empty, settings, seed=seed)


def encoder_linear(
    settings: Component, role: str, sizes: tuple[int, int], *, seed: int, dtype: torch.dtype, bias: bool = True
) -> Stage:
    """One Linear of an encoder component, ``sizes`` = (in, out), known there as ``role`` (``layers.0.q_proj``)."""
    empty = nn.Linear(*sizes, bias=bias, dtype=dtype, device="meta")
    return Stage(empty, settings, seed=seed, role=f"{role}.weight")


def conv_stage(settings: Component, in_channels: int, *, seed: int, dtype: torch.dtype) -> Stage:
    """A ``Conv2d`` component over ``[N, in_channels, W, H]``, square kernel, no padding."""
    sizes = settings.sizes
    channels, kernel = sizes["out_channels"], sizes["kernel_size"]
    empty = ValidConv2d(in_channels, channels, kernel, stride=sizes["stride"], dtype=dtype, device="meta")
    return Stage(empty, settings, seed=seed)


def conv_output_size(settings: Component, width: int, height: int) -> tuple[int, int]:
    """Cells along x and y that a ``Conv2d`` component makes of ``width`` x ``height``.

    Raises:
        ConfigError: the kernel is larger than its input.
    """
    kernel, stride = settings.sizes["kernel_size"], settings.sizes["stride"]
    if kernel > min(width, height):
        raise ConfigError(
            f"{settings.where}: nn_params.kernel_size is {kernel} but the input is {width} x {height}; "
            "give a smaller kernel, or a smaller stride before it"
        )
    return (width - kernel) // stride + 1, (height - kernel) // stride + 1

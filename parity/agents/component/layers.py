"""Plain layers: Linear and Conv2d, whose weights are clipped and regularised, and the ones around them."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.component.base import BuildContext, Component, Shape, TrackedWeight
from parity.agents.component.initialization import draw_orthogonal, uninitialised
from parity.agents.component.settings import ComponentSettings, did_you_mean

NONLINEARITIES: dict[str, type[nn.Module]] = {
    "nn.ReLU": nn.ReLU,
    "nn.Tanh": nn.Tanh,
    "nn.GELU": nn.GELU,
    "nn.ELU": nn.ELU,
    "nn.SiLU": nn.SiLU,
    "nn.LeakyReLU": nn.LeakyReLU,
    "nn.Sigmoid": nn.Sigmoid,
}


class WeightLayer(Component):
    """A Linear or Conv2d with its nonlinearity, and what clipping and l2-init regularisation need to remember.

    Buffers, persistent so that a checkpoint keeps them: ``initial_weight``, the weight that ``l2_init_loss`` pulls
    towards, and ``initial_max``, the largest magnitude of the weight at construction, which scales the clipping bound.
    """

    option_keys: ClassVar[frozenset[str]] = frozenset({"nonlinearity", "clip_scale", "l2_init_scale"})

    initial_weight: Tensor
    initial_max: Tensor

    def __init__(
        self,
        settings: ComponentSettings,
        inputs: tuple[Shape, ...],
        context: BuildContext,
        net: nn.Linear | nn.Conv2d,
    ) -> None:
        super().__init__(settings, inputs, context)
        self.net = net
        self.nonlinearity = _nonlinearity(settings)
        self.clip_scale = settings.number(settings.options, "clip_scale", 1.0)
        self.l2_init_scale = settings.number(settings.options, "l2_init_scale", 1.0)
        self.analyze_weights = settings.flag("analyze_weights")
        gain = math.sqrt(2.0) if isinstance(self.nonlinearity, nn.Tanh) else 1.0
        draw_orthogonal(net.weight, context.seed, settings.name, "weight", gain)
        assert net.bias is not None
        nn.init.zeros_(net.bias)
        self.register_buffer("initial_weight", net.weight.detach().clone())
        self.register_buffer("initial_max", net.weight.detach().abs().max())

    def tracked_weights(self) -> tuple[TrackedWeight, ...]:
        """Return the layer's weight."""
        scales = (self.clip_scale, self.l2_init_scale)
        return (TrackedWeight(self.net.weight, self.initial_weight, self.initial_max, *scales),)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, then the nonlinearity, to ``[N, *input shape]``."""
        x = self.net(x)
        return x if self.nonlinearity is None else self.nonlinearity(x)


class Linear(WeightLayer):
    """``[N, ..., F]`` -> ``[N, ..., out_features]``."""

    nn_param_keys: ClassVar[frozenset[str]] = frozenset({"out_features"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        (shape,) = inputs
        width = settings.whole("out_features")
        net = uninitialised(nn.Linear, shape[-1], width)
        super().__init__(settings, inputs, context, net)
        self.output_shape = (*shape[:-1], width)


class Conv2d(WeightLayer):
    """``[N, C, W, H]`` -> ``[N, out_channels, W', H']``; cells that a last stride does not reach are left out."""

    nn_param_keys: ClassVar[frozenset[str]] = frozenset({"out_channels", "kernel_size", "stride", "padding"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        (shape,) = inputs
        if len(shape) != 3:
            raise settings.error(f"takes a box [channels, width, height], but its source gives {list(shape)} per row")
        channels, kernel = settings.whole("out_channels"), settings.whole("kernel_size")
        stride, padding = settings.whole("stride", 1), settings.whole("padding", 0, at_least=0)
        width, height = (_convolved(settings, size, kernel, stride, padding) for size in shape[1:])
        net = uninitialised(nn.Conv2d, shape[0], channels, kernel, stride, padding)
        super().__init__(settings, inputs, context, net)
        self.output_shape = (channels, width, height)


class Flatten(Component):
    """``[N, ...]`` -> ``[N, F]``."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = (math.prod(inputs[0]),)

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all axes but the first."""
        return x.flatten(1)


class LayerNorm(Component):
    """Layer normalisation over the last axis, with weights of 1 and biases of 0; neither is clipped."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.net = nn.LayerNorm(inputs[0][-1], device="cpu", dtype=torch.float32)
        self.output_shape = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, ..., F]``."""
        return self.net(x)


class ReLU(Component):
    """The larger of the input and 0."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to a tensor of any shape."""
        return torch.relu(x)


class Identity(Component):
    """The input itself."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x


class Dropout(Component):
    """In training mode, zero each number with probability ``p`` (0.5 if absent) and scale up the others."""

    nn_param_keys: ClassVar[frozenset[str]] = frozenset({"p"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        probability = settings.number(settings.nn_params, "p", 0.5)
        if probability > 1.0:
            raise settings.error(f"nn_params.p is {probability!r}; give a probability from 0 to 1")
        self.net = nn.Dropout(probability)
        self.output_shape = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to a tensor of any shape."""
        return self.net(x)


def _nonlinearity(settings: ComponentSettings) -> nn.Module | None:
    given = settings.options.get("nonlinearity", "nn.ReLU")
    if given is None:
        return None
    key = given if str(given).startswith("nn.") else f"nn.{given}"
    if key not in NONLINEARITIES:
        raise settings.error(f"unknown nonlinearity {given!r}; {did_you_mean(key, NONLINEARITIES)} (null for none)")
    return NONLINEARITIES[key]()


def _convolved(settings: ComponentSettings, size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many cells the convolution gives along an axis of ``size`` cells."""
    span = size + 2 * padding - kernel
    if span < 0:
        raise settings.error(
            f"kernel_size {kernel} is larger than its input of {size} cells with padding {padding}; give a smaller "
            "kernel_size, or a smaller stride before it"
        )
    return span // stride + 1

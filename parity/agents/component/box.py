"""Observation tokens as a box of layers, the normalisation of its layers, and its centre cell."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.reader import TokenReader
from parity.agents.component.settings import ComponentSettings


class ObsTokenToBoxShaper(TokenReader):
    """Tokens ``[N, M, 3]`` uint8 -> box ``[N, layers, width, height]`` of raw values, ``box[n, feature, x, y]``."""

    zero: Tensor

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = (self.num_layers, self.width, self.height)
        # Follows the policy's dtype and device, which the uint8 tokens cannot tell.
        self.register_buffer("zero", torch.zeros((), device="cpu", dtype=torch.float32), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Write each token's value at its feature, x and y; of two for one cell the larger stays."""
        kept = self.real(tokens)
        byte, feature, value = tokens.unbind(-1)
        x, y = byte >> 4, byte & 0x0F
        # Tokens to leave out raise cell 0 to at least 0, which it is anyway.
        cell = (feature.long() * self.width + x) * self.height + y
        cell = torch.where(kept, cell, 0)
        value = torch.where(kept, value, 0).to(self.zero.dtype)
        box = self.zero.new_zeros((tokens.shape[0], self.num_layers * self.width * self.height))
        box = box.scatter_reduce_(1, cell, value, "amax")
        return box.view(tokens.shape[0], *self.output_shape)


class ObservationNormalizer(Component):
    """Box ``[N, layers, width, height]`` -> the same, each layer divided by its feature's normalisation."""

    normalization: Tensor

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        (shape,) = inputs
        layers = context.environment.num_layers
        if len(shape) != 3 or shape[0] != layers:
            raise settings.error(
                f"takes a box of {layers} layers [{layers}, width, height], but its source gives {list(shape)} per row"
            )
        self.output_shape = shape
        # Persistent: a layer whose feature a later environment lacks keeps its divisor, over a checkpoint too.
        self.register_buffer("normalization", torch.ones(layers, device="cpu", dtype=torch.float32))

    def set_normalizations(self, normalizations: Mapping[int, float]) -> None:
        """Adopt the divisors of the given feature ids, as far as they have a layer."""
        for feature, divisor in normalizations.items():
            if feature < len(self.normalization):
                self.normalization[feature] = divisor

    def forward(self, box: Tensor) -> Tensor:
        """Divide."""
        return box / self.normalization.view(1, -1, 1, 1)


class CenterCell(Component):
    """Box ``[N, layers, width, height]`` -> ``[N, layers]``: what stands in the centre cell, the agent's own."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        (shape,) = inputs
        if len(shape) != 3:
            raise settings.error(f"takes a box [layers, width, height], but its source gives {list(shape)} per row")
        layers, width, height = shape
        self.x, self.y = width // 2, height // 2
        self.output_shape = (layers,)

    def forward(self, box: Tensor) -> Tensor:
        """Take the cell at ``[width // 2, height // 2]``."""
        return box[:, :, self.x, self.y]

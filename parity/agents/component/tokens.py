"""Tokens that stay tokens: stripping padding, normalising values, and each token's features for the encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.component.base import ATTRIBUTES, FEATURES, TOKENS, BuildContext, Component, Shape
from parity.agents.component.initialization import draw_trunc_normal, uninitialised
from parity.agents.component.reader import TokenReader
from parity.agents.component.settings import ComponentSettings
from parity.agents.interface import PADDING_BYTE, UNKNOWN_FEATURE_ID

_BYTES = 256


class ObsTokenPadStrip(TokenReader):
    """Tokens ``[N, M, 3]`` uint8 -> tokens ``[N, S, 3]`` and mask bool ``[N, S]``, true where a token is real.

    S reaches to the last real token of any row and is at least 1. Slots without a real token keep their bytes.
    """

    gives: ClassVar[str] = TOKENS

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = (context.environment.num_tokens, 3)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cut off the slots behind every row's last real token."""
        mask = self.real(tokens)
        used = mask.any(dim=0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return tokens[:, :length], mask[:, :length]


class ObsAttrValNorm(Component):
    """Tokens and mask -> coordinates uint8, ids uint8, values, mask, each ``[N, S]``.

    Values are in the policy's dtype, each divided by its feature's normalisation.
    """

    takes: ClassVar[str] = TOKENS
    gives: ClassVar[str] = ATTRIBUTES

    normalization: Tensor

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = inputs[0][:1]
        # One divisor for every byte, since padding may carry any id. Persistent: a feature that a later environment
        # lacks keeps its divisor, over a checkpoint too.
        self.register_buffer("normalization", torch.ones(_BYTES, device="cpu", dtype=torch.float32))

    def set_normalizations(self, normalizations: Mapping[int, float]) -> None:
        """Adopt the divisors of the given feature ids."""
        for feature, divisor in normalizations.items():
            self.normalization[feature] = divisor

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take the tokens apart and divide."""
        coordinates, ids, values = tokens.unbind(-1)
        return coordinates, ids, values / self.normalization[ids.long()], mask


class ObsAttrEmbedFourier(Component):
    """Attributes -> features ``[N, S, e + 4 f + 1]`` and mask: id embedding, cos x, sin x, cos y, sin y, value."""

    takes: ClassVar[str] = ATTRIBUTES
    gives: ClassVar[str] = FEATURES
    option_keys: ClassVar[frozenset[str]] = frozenset({"attr_embed_dim", "num_freqs"})

    frequencies: Tensor

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        width, count = settings.whole_option("attr_embed_dim"), settings.whole_option("num_freqs")
        self.attr_embeds = _byte_table(settings, context, "attr_embeds", width, UNKNOWN_FEATURE_ID)
        self.obs_width, self.obs_height = context.environment.obs_width, context.environment.obs_height
        frequencies = 2.0 ** torch.arange(count, device="cpu", dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.output_shape = (*inputs[0], width + 4 * count + 1)

    def forward(self, coordinates: Tensor, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Concatenate the features; x and y are scaled to [-1, 1] over the observation."""
        x, y = (coordinates >> 4).to(values.dtype), (coordinates & 0x0F).to(values.dtype)
        x = _scaled(x, self.obs_width).unsqueeze(-1) * self.frequencies
        y = _scaled(y, self.obs_height).unsqueeze(-1) * self.frequencies
        parts = [self.attr_embeds(ids.long()), x.cos(), x.sin(), y.cos(), y.sin(), values.unsqueeze(-1)]
        return torch.cat(parts, dim=-1), mask


class ObsAttrCoordEmbed(Component):
    """Attributes -> features ``[N, S, e + 1]`` and mask: the id's embedding plus the coordinate's, then the value."""

    takes: ClassVar[str] = ATTRIBUTES
    gives: ClassVar[str] = FEATURES
    option_keys: ClassVar[frozenset[str]] = frozenset({"attr_embed_dim"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        width = settings.whole_option("attr_embed_dim")
        self.attr_embeds = _byte_table(settings, context, "attr_embeds", width, UNKNOWN_FEATURE_ID)
        self.coord_embeds = _byte_table(settings, context, "coord_embeds", width, PADDING_BYTE)
        self.output_shape = (*inputs[0], width + 1)

    def forward(self, coordinates: Tensor, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Add the two embeddings and append the value."""
        embedding = self.attr_embeds(ids.long()) + self.coord_embeds(coordinates.long())
        return torch.cat([embedding, values.unsqueeze(-1)], dim=-1), mask


def _byte_table(
    settings: ComponentSettings, context: BuildContext, role: str, width: int, zero_row: int
) -> nn.Embedding:
    """Return a table with a row for every byte, of which ``zero_row`` is zero and is not trained."""
    table = uninitialised(nn.Embedding, _BYTES, width, zero_row)
    draw_trunc_normal(table.weight, context.seed, settings.name, f"{role}.weight")
    with torch.no_grad():
        table.weight[zero_row] = 0.0
    return table


def _scaled(position: Tensor, cells: int) -> Tensor:
    """Map cell numbers 0 .. cells - 1 to -1 .. 1, a single cell to 0."""
    return 2.0 * position / (cells - 1) - 1.0 if cells > 1 else torch.zeros_like(position)

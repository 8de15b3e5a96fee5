"""Encoders that keep observation tokens as tokens: strip the padding, normalise the values, embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parity.agents.interface import PADDING_BYTE, UNKNOWN_FEATURE_ID
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.layers import warn_of_ignored_tokens
from parity.agents.pytorch.weights import draw_truncated_normal

EMBEDDING_STD = 0.02
_BYTES = 256
# Above the byte that holds a token's id in ``TokenStrip.codes``.
_PADDING, _IGNORED = 256, 512


class TokenStrip(nn.Module):
    """Tokens ``[N, M, 3]`` uint8 -> (tokens ``[N, S, 3]`` uint8 with remapped ids, mask bool ``[N, S]``).

    The mask is true where a token is real: neither padding nor outside the box nor of a feature without a layer. S is
    one more than the last column with a real token, at least 1. What is not real keeps its slot, its id remapped too.

    Coordinate byte and feature id together are one key into a table of 65,536 codes, which holds nibbles, feature
    remapping and bounds at once: a code's low byte is the remapped id, a bit above it says that the token is not real.

    ``set_feature_remap`` comes before the first call.
    """

    codes: Tensor

    def __init__(self, layers: int, width: int, height: int) -> None:
        super().__init__()
        self.layers, self.width, self.height = layers, width, height
        self.has_warned = False
        self.register_buffer("codes", torch.empty(0, dtype=torch.int32), persistent=False)

    def set_feature_remap(self, remap: Sequence[int]) -> None:
        """Adopt ``remap`` (256 ids; those at or above ``layers`` are ignored) as the meaning of a token's id."""
        byte = torch.arange(_BYTES, dtype=torch.int32)
        feature = torch.tensor(list(remap), dtype=torch.int32)
        outside = ((byte >> 4) >= self.width) | ((byte & 0x0F) >= self.height)
        codes = (outside.int() * _IGNORED)[:, None] | (feature + (feature >= self.layers).int() * _IGNORED)
        codes[PADDING_BYTE] = feature + _PADDING
        self.codes = codes.flatten().to(self.codes.device)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Strip the columns behind the last real token of all rows."""
        coordinates, ids, values = tokens.unbind(-1)
        keys = torch.add(ids, coordinates.int(), alpha=_BYTES)
        codes = self.codes.index_select(0, keys.flatten()).view(keys.shape)
        if not self.has_warned and bool((codes >= _IGNORED).any()):
            self.has_warned = True
            warn_of_ignored_tokens(self.layers, self.width, self.height)
        mask = codes < _BYTES
        used = mask.any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        numbers = (coordinates, codes.to(torch.uint8), values)
        return torch.stack([number[:, :length] for number in numbers], dim=-1), mask[:, :length]


class ValueNormalizer(nn.Module):
    """Divide each token's value by its feature's normalisation (1 without one)."""

    scale: Tensor

    def __init__(self, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(_BYTES, dtype=dtype), persistent=False)

    def set_normalizations(self, normalizations: Mapping[int, float]) -> None:
        """Set the ids named; others keep theirs."""
        for feature, value in normalizations.items():
            self.scale[feature] = value

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Split tokens ``[N, S, 3]``.

        Returns:
            Coordinates and ids, uint8 ``[N, S]``, normalised values ``[N, S]`` in the policy's dtype, and the mask.
        """
        coordinates, ids, values = tokens.unbind(-1)
        scale = self.scale.index_select(0, ids.flatten().int()).view(ids.shape)
        return coordinates, ids, values / scale, mask


class FourierTokens(nn.Module):
    """Each token as e + 4f + 1 numbers: embedding of its id, cos x, sin x, cos y, sin y (f each), value.

    x and y are scaled to [-1, 1] over the box (0 where it is one cell wide); the frequencies are 1, 2, 4, ...
    """

    places: Tensor
    frequencies: Tensor

    def __init__(self, settings: Component, width: int, height: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        embed, count = settings.sizes["attr_embed_dim"], settings.sizes["num_freqs"]
        self.width = embed + 4 * count + 1
        role = "attr_embeds.weight"
        table = draw_truncated_normal((_BYTES, embed), std=EMBEDDING_STD, seed=seed, component=settings.name, role=role)
        table[UNKNOWN_FEATURE_ID] = 0.0
        self.attr_embeds = nn.Embedding.from_pretrained(table.to(dtype), freeze=False, padding_idx=UNKNOWN_FEATURE_ID)
        # Whole numbers, so that they are exact in every dtype the policy may be moved to.
        byte = torch.arange(_BYTES)
        self.register_buffer("places", torch.stack((byte >> 4, byte & 0x0F), dim=1).to(dtype), persistent=False)
        self.register_buffer("frequencies", (2 ** torch.arange(count)).to(dtype), persistent=False)
        self.last = (width - 1, height - 1)

    def forward(self, coordinates: Tensor, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Four ``[N, S]`` -> (features ``[N, S, e + 4f + 1]``, mask)."""
        waves = self._waves().index_select(0, coordinates.flatten().int()).view(*coordinates.shape, -1)
        return torch.cat((self.attr_embeds(ids.int()), waves, values.unsqueeze(-1)), dim=-1), mask

    def _waves(self) -> Tensor:
        """Return cos x, sin x, cos y, sin y of each coordinate byte, ``[256, 4f]``."""
        axes = [
            2.0 * self.places[:, axis] / last - 1.0 if last else torch.zeros_like(self.places[:, axis])
            for axis, last in enumerate(self.last)
        ]
        angles = [axis[:, None] * self.frequencies for axis in axes]
        return torch.cat([wave for angle in angles for wave in (angle.cos(), angle.sin())], dim=1)

"""Faults between the observation tokens and the normalised box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from parity.agents.interface import PADDING_BYTE
from parity.agents.pytorch.layers import Normalizer, TokensToBox
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
UPSTREAM_TOKENS = "upstream history: token handling of the observation shapers"
_GLOBAL_BYTE = 0xFE

# Tokens to box. The box looks up (coordinate byte, feature id) in its table of slots: a wrong table is a wrong box.


def _change_slots(patch: Patcher, change: Callable[[TokensToBox, Tensor], None]) -> None:
    """Alter the table, seen as ``[256 bytes, 256 ids]``, each time it was filled."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def set_feature_remap(self: TokensToBox, remap: Sequence[int]) -> None:
            original(self, remap)
            change(self, self.slots.view(256, 256))

        return set_feature_remap

    patch.wrap(TokensToBox, "set_feature_remap", make)


def _refill(patch: Patcher, fill: Callable[[Tensor, Tensor, Tensor], None]) -> None:
    """Fill the cells, ``[N, slots]`` of zeros in the policy's dtype, by ``fill(cells, slots, values)`` instead."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: TokensToBox, tokens: Tensor) -> Tensor:
            box = original(self, tokens)  # for its warning
            slots = self.slots.view(256, 256)[tokens[..., 0].long(), tokens[..., 1].long()]
            cells = torch.zeros(len(tokens), self.size + 2, dtype=box.dtype)
            fill(cells, slots, tokens[..., 2].to(box.dtype))
            cells = cells.narrow(1, 1, self.size).view(-1, self.width, self.height, self.layers)
            return cells.permute(0, 3, 1, 2)

        return forward

    patch.wrap(TokensToBox, "forward", make)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def padding_turned_into_real_tokens(patch: Patcher) -> None:
    """Every 0xFF is replaced by 0 before the box is built, so padding becomes tokens of cell 0."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, tokens: original(self, tokens.masked_fill(tokens == PADDING_BYTE, 0))

    patch.wrap(TokensToBox, "forward", make)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def padding_written_over_cell_0(patch: Patcher) -> None:
    """Padding's value, 255, is written to the lowest feature of cell (0, 0)."""

    def change(_box: TokensToBox, slots: Tensor) -> None:
        slots[PADDING_BYTE] = 1

    _change_slots(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def ignored_tokens_erase_cell_0(patch: Patcher) -> None:
    """A row with any ignored token loses what stands at the lowest feature of cell (0, 0)."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: TokensToBox, tokens: Tensor) -> Tensor:
            box = original(self, tokens)
            slots = self.slots.view(256, 256)[tokens[..., 0].long(), tokens[..., 1].long()]
            box[(slots > self.size).any(1), 0, 0, 0] = 0.0
            return box

        return forward

    patch.wrap(TokensToBox, "forward", make)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def x_and_y_swapped(patch: Patcher) -> None:
    """The coordinate byte's nibbles are read in the wrong order."""

    def change(box: TokensToBox, _slots: Tensor) -> None:
        box.slots.copy_(box.slots.view(16, 16, 256).transpose(0, 1).flatten())

    _change_slots(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def last_token_of_a_cell_wins(patch: Patcher) -> None:
    """Of two tokens for one cell and feature the later one is kept, not the larger."""

    def fill(cells: Tensor, slots: Tensor, values: Tensor) -> None:
        cells.scatter_(1, slots, values)

    _refill(patch, fill)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def tokens_of_a_cell_summed(patch: Patcher) -> None:
    """Two tokens for one cell and feature are added up."""

    def fill(cells: Tensor, slots: Tensor, values: Tensor) -> None:
        cells.scatter_add_(1, slots, values)

    _refill(patch, fill)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def global_tokens_clamped_into_the_box(patch: Patcher) -> None:
    """Global tokens (0xFE) are clamped to the last cell instead of being ignored."""

    def change(box: TokensToBox, slots: Tensor) -> None:
        slots[_GLOBAL_BYTE] = slots[(box.width - 1) << 4 | (box.height - 1)]

    _change_slots(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_TOKENS, check="forward", component="_obs_", phase="forward")
def feature_id_off_by_one(patch: Patcher) -> None:
    """Each token lands one feature too low: the slot in front of the box is not counted."""

    def change(box: TokensToBox, slots: Tensor) -> None:
        slots[(slots > 0) & (slots <= box.size)] -= 1

    _change_slots(patch, change)


# Normalisation


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="obs_normalizer", phase="forward")
def normalisation_ignored(patch: Patcher) -> None:
    """The raw box is passed on."""
    patch.attribute(Normalizer, "forward", lambda self, box: box)


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="obs_normalizer", phase="forward")
def normalisation_multiplied(patch: Patcher) -> None:
    """The box is multiplied by the normalisations."""
    patch.attribute(Normalizer, "forward", lambda self, box: box * self.scale)


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="obs_normalizer", phase="forward")
def normalisation_written_into_uint8(patch: Patcher) -> None:
    """The normalised values are stored in the raw box's own uint8, which cuts their fractions off."""
    patch.attribute(Normalizer, "forward", lambda self, box: (box / self.scale).to(torch.uint8).to(box.dtype))

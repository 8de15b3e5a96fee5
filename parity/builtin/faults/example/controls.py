"""Negative controls of pair `example`: rewrites that change no behaviour. Every check stays green."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from parity.agents.pytorch.example import CenterCell, Merge
from parity.builtin.faults.example.catalogue import CATALOGUE
from parity.faults.plant import Patcher


@CATALOGUE.control(why="a buffer filled part by part is a concatenation")
def merged_into_a_buffer(patch: Patcher) -> None:
    """Both branches are written into one new tensor."""

    def forward(self: Merge, first: Tensor, second: Tensor) -> Tensor:
        merged = first.new_empty(len(first), first.shape[1] + second.shape[1])
        merged[:, : first.shape[1]] = first
        merged[:, first.shape[1] :] = second
        return merged

    patch.attribute(Merge, "forward", forward)


@CATALOGUE.control(why="a row of cells holds each cell once")
def centre_read_from_flat_cells(patch: Patcher) -> None:
    """The cell is picked by its number among all cells."""

    def forward(self: CenterCell, box: Tensor) -> Tensor:
        width, height = box.shape[2:]
        cell = torch.tensor([width // 2 * height + height // 2])
        return box.flatten(2).index_select(2, cell).squeeze(2)

    patch.attribute(CenterCell, "forward", forward)


@CATALOGUE.control(why="the observation has no gradient")
def centre_detached_at_the_box(patch: Patcher) -> None:
    """The cell is read from a detached box."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, box: original(self, box.detach())

    patch.wrap(CenterCell, "forward", make)

"""Faults in which cell is the agent's own, and in what is read from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from parity.agents.component import merge as component_merge
from parity.agents.component.registry import KINDS
from parity.agents.pytorch.example import CenterCell, Example, Merge
from parity.builtin.faults.example.catalogue import CATALOGUE
from parity.faults.plant import Patcher

CELL = "upstream history: x and y swapped, and sizes of the box written out"
UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
TRACKERS = "issue trackers of other reinforcement-learning projects"

_of_centre = partial(CATALOGUE.fault, check="forward", component="center", phase="forward")


def _read(patch: Patcher, read: Callable[[Tensor], Tensor]) -> None:
    """Read ``read(box)``, ``[N, L]`` of a box ``[N, L, W, H]``, for the agent's own cell."""
    patch.attribute(CenterCell, "forward", lambda self, box: read(box))


def _cell(box: Tensor, dx: int = 0, dy: int = 0) -> Tensor:
    return box[:, :, box.shape[2] // 2 + dx, box.shape[3] // 2 + dy]


@_of_centre(origin=CELL)
def centre_one_cell_to_the_left(patch: Patcher) -> None:
    """The cell at W // 2 - 1 is read."""
    _read(patch, lambda box: _cell(box, dx=-1))


@_of_centre(origin=CELL)
def centre_one_cell_down(patch: Patcher) -> None:
    """The cell at H // 2 + 1 is read."""
    _read(patch, lambda box: _cell(box, dy=1))


@_of_centre(origin=CELL)
def centre_of_an_even_box_rounded_down(patch: Patcher) -> None:
    """The cell at ((W - 1) // 2, (H - 1) // 2) is read, another one only where a side is even."""
    _read(patch, lambda box: box[:, :, (box.shape[2] - 1) // 2, (box.shape[3] - 1) // 2])


@_of_centre(origin=CELL)
def centre_with_x_and_y_swapped(patch: Patcher) -> None:
    """The cell at (H // 2, W // 2) is read; no square box shows it."""
    _read(patch, lambda box: box[:, :, box.shape[3] // 2, box.shape[2] // 2])


@_of_centre(origin="upstream history: hard-coded 11x11")
def centre_at_5_and_5(patch: Patcher) -> None:
    """The centre of the default box is read in every box."""
    _read(patch, lambda box: box[:, :, 5, 5])


@_of_centre(origin=UPSTREAM)
def cell_0_read_for_the_centre(patch: Patcher) -> None:
    """The corner is read."""
    _read(patch, lambda box: box[:, :, 0, 0])


@_of_centre(origin=UPSTREAM)
def neighbourhood_averaged(patch: Patcher) -> None:
    """The mean of the three by three cells around the centre is read."""
    _read(patch, lambda box: _cell(functional.avg_pool2d(box, 3, stride=1, padding=1)))


@_of_centre(origin=TRACKERS)
def centre_of_the_first_row(patch: Patcher) -> None:
    """Every row of the batch gets the first one's cell."""
    _read(patch, lambda box: _cell(box)[:1].expand(len(box), -1))


@_of_centre(origin="upstream history: normalisation ignored")
def centre_before_normalisation(patch: Patcher) -> None:
    """The cell is read from the raw box."""

    def encode_observations(self: Example, tokens: Tensor) -> Tensor:
        raw = self.box(tokens)
        surroundings = self.fc1(self.flattener(self.cnn2(self.cnn1(self.normalizer(raw)))))
        return self.merge(surroundings, self.center_fc(self.center(raw)))

    patch.attribute(Example, "encode_observations", encode_observations)


@_of_centre(origin="upstream history: normalisation applied twice")
def centre_normalised_twice(patch: Patcher) -> None:
    """The cell is normalised once more on its way to its layer."""

    def encode_observations(self: Example, tokens: Tensor) -> Tensor:
        box = self.normalizer(self.box(tokens))
        surroundings = self.fc1(self.flattener(self.cnn2(self.cnn1(box))))
        return self.merge(surroundings, self.center_fc(self.center(self.normalizer(box))))

    patch.attribute(Example, "encode_observations", encode_observations)


@CATALOGUE.fault(origin=CELL, place="reference", check="forward", component="center", phase="forward")
def reference_centre_off_by_one(patch: Patcher) -> None:
    """The reference reads the cell at W // 2 + 1."""
    patch.attribute(KINDS["CenterCell"], "forward", lambda self, box: _cell(box, dx=1))


# The merge


@CATALOGUE.fault(origin=UPSTREAM, place="reference", check="forward", component="encoded_obs", phase="forward")
def reference_merges_in_the_other_order(patch: Patcher) -> None:
    """The reference's Concat puts its sources in reverse order."""
    patch.attribute(component_merge.Concat, "_merge", lambda self, tensors: torch.cat(tensors[::-1], dim=1))


_of_merge = partial(CATALOGUE.fault, check="forward", component="encoded_obs", phase="forward")


def _merge(patch: Patcher, merge: Callable[[Tensor, Tensor], Tensor]) -> None:
    patch.attribute(Merge, "forward", lambda self, first, second: merge(first, second))


@_of_merge(origin=UPSTREAM)
def merged_in_the_other_order(patch: Patcher) -> None:
    """The centre's features come first."""
    _merge(patch, lambda first, second: torch.cat((second, first), dim=1))


@_of_merge(origin=UPSTREAM)
def merged_alternately(patch: Patcher) -> None:
    """Features of both branches take turns."""

    def merge(first: Tensor, second: Tensor) -> Tensor:
        both = torch.cat((first, second), dim=1)
        return both.view(len(both), 2, -1).transpose(1, 2).flatten(1)

    _merge(patch, merge)


@_of_merge(origin=UPSTREAM)
def centre_overwritten_by_the_sum(patch: Patcher) -> None:
    """The first branch is added to where the second should stand."""

    def merge(first: Tensor, second: Tensor) -> Tensor:
        width = min(first.shape[1], second.shape[1])
        return torch.cat((first, second + functional.pad(first[:, :width], (0, second.shape[1] - width))), dim=1)

    _merge(patch, merge)


@CATALOGUE.fault(origin="upstream history: layer sizes written out by hand", check="fields", component="_core_",
                 phase="rollout", raises=True)  # fmt: skip
def merge_of_the_wrong_width(patch: Patcher) -> None:
    """The merge drops the last feature; the core, of fixed size, refuses what comes of it."""
    _merge(patch, lambda first, second: torch.cat((first, second), dim=1)[:, :-1])


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="encoded_obs", phase="backward")
def centre_gradient_halved(patch: Patcher) -> None:
    """Half of the gradient passes through the merge to the centre's branch."""
    _merge(patch, lambda first, second: torch.cat((first, 0.5 * second + 0.5 * second.detach()), dim=1))


@CATALOGUE.fault(origin="other projects' trackers: one parameter frozen", check="gradients", component="center_fc",
                 phase="backward")  # fmt: skip
def centre_detached(patch: Patcher) -> None:
    """The centre's branch is merged without recording gradients."""
    _merge(patch, lambda first, second: torch.cat((first, second.detach()), dim=1))

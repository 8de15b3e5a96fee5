"""The geometry of one square room: what an agent in it sees, where it can go and what it can take, all as tables."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.agents.interface import PADDING_BYTE

#: What an action can do. REACH is the first of nine: it takes from the cell ahead to the left, the others follow in
#: reading order, the own cell being the fifth; SWEEP takes from whichever of the nine has something.
NOTHING, AHEAD, BACK, TURN, SWEEP, REACH = range(6)
EFFECTS = REACH + 9

#: Per heading (north, east, south, west) the step ahead and the step to the right, as (x, y); y grows to the south.
_AHEAD = torch.tensor([[0, -1], [1, 0], [0, 1], [-1, 0]])
_RIGHT = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])


class Room:
    """Tables over all P = 4 C poses (cell * 4 + heading) and C = ``side``^2 cells (y * ``side`` + x).

    Attributes:
        moved: ``[P, EFFECTS]`` int64: the pose after an effect.
        takes: ``[P, C, EFFECTS]`` bool: whether an effect takes what lies on a cell.
        shortest: ``[P, C]`` int64: the effect to choose next so as to take from a cell after the fewest actions.
        coordinates: ``[P, C]`` uint8: the coordinate byte at which a cell is seen.
        walls: ``[P, 4 (side + 1)]`` uint8: those of the walls in sight, then padding.

    Args:
        side: cells along each side.
        width: of the box that is seen, ahead being up; the agent sees itself at (width // 2, height // 2).
        height: of the box.
    """

    def __init__(self, side: int, *, width: int, height: int) -> None:
        cells = torch.tensor([(x, y) for y in range(side) for x in range(side)])
        ring = [(x, y) for y in range(-1, side + 1) for x in range(-1, side + 1) if {x, y} & {-1, side}]
        here = cells.repeat_interleave(4, dim=0)
        heading = torch.arange(4).repeat(len(cells))
        pose = torch.arange(len(here))

        self.moved = pose[:, None].repeat(1, EFFECTS)
        for effect, sign in ((AHEAD, 1), (BACK, -1)):
            x, y = (here + sign * _AHEAD[heading]).clamp(0, side - 1).unbind(1)
            self.moved[:, effect] = (y * side + x) * 4 + heading
        self.moved[:, TURN] = pose - heading + (heading + 1) % 4

        right, down = _seen(cells, here, heading)
        near = (right.abs() <= 1) & (down.abs() <= 1)
        effect, reach = torch.arange(EFFECTS), REACH + 3 * (down + 1) + right + 1
        self.takes = near[..., None] & ((effect == SWEEP) | (effect == reach[..., None]))
        walk = torch.where(down < 0, AHEAD, BACK)
        self.shortest = torch.where(near, SWEEP, torch.where(down.abs() > 1, walk, TURN))

        self.coordinates = _bytes(right, down, width, height)
        self.walls = _bytes(*_seen(torch.tensor(ring), here, heading), width, height).sort(dim=1).values


def _seen(cells: Tensor, here: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """How far to the right and how far down the agent of each pose sees each cell, ``[P, cells]`` each."""
    offset = cells - here[:, None]
    right = (offset * _RIGHT[heading][:, None]).sum(dim=2)
    return right, -(offset * _AHEAD[heading][:, None]).sum(dim=2)


def _bytes(right: Tensor, down: Tensor, width: int, height: int) -> Tensor:
    """Coordinate bytes, those outside the box padding; so is (15, 15), which no token can name."""
    x, y = right + width // 2, down + height // 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.where(inside, (x << 4) | y, PADDING_BYTE).to(torch.uint8)

"""Recurrent states of any layout: nested tuples, lists and mappings of tensors, each with a batch axis somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.compare.verdict import Misuse


def leaves(state: Any) -> list[Tensor]:
    """The tensors of a nested state, in order."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in leaves(value)]
    if isinstance(state, (tuple, list)):
        return [leaf for value in state for leaf in leaves(value)]
    return []


def rebuilt(state: Any, values: Iterable[Tensor]) -> Any:
    """A state of the same layout with other tensors."""
    source = iter(values)

    def build(part: Any) -> Any:
        if isinstance(part, Tensor):
            return next(source)
        if isinstance(part, dict):
            return {key: build(value) for key, value in part.items()}
        if isinstance(part, (tuple, list)):
            parts = [build(value) for value in part]
            return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
        return part

    return build(state)


@dataclass(frozen=True)
class Layout:
    """Where the batch axis of each leaf is, and what shape one row has; measured from initial states of two sizes."""

    axes: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, initial: Callable[[int], Any], who: str) -> Layout:
        """Measure it.

        Args:
            initial: makes the state of so many rows.
            who: whose it is, for messages.

        Raises:
            Misuse: a leaf has no axis of that size, or there is no tensor at all.
        """
        two, three = leaves(initial(2)), leaves(initial(3))
        if not two or len(two) != len(three):
            raise Misuse(
                f"{who}: initial_state(policy, batch) gives {len(two)} and {len(three)} tensors for 2 and 3 rows; it "
                "must give a tensor, or a tuple, list or dict of tensors"
            )
        axes = []
        for a, b in zip(two, three, strict=True):
            expected = [
                axis for axis in range(a.dim()) if b.dim() == a.dim() and (a.shape[axis], b.shape[axis]) == (2, 3)
            ]
            if len(expected) != 1:
                raise Misuse(
                    f"{who}: initial_state(policy, batch) gives shapes {list(a.shape)} and {list(b.shape)} for 2 and 3 "
                    "rows; exactly one axis must be the batch"
                )
            axes.append(expected[0])
        rows = tuple(_row(a.movedim(axis, 0)[0]) for a, axis in zip(two, axes, strict=True))
        return cls(tuple(axes), rows)

    def masked(self, state: Any, fresh: Any, reset: Tensor) -> Any:
        """``state`` with the rows of ``fresh`` where ``reset [B]`` is true."""
        pairs = zip(leaves(state), leaves(fresh), self.axes, strict=True)
        return rebuilt(state, [_where(reset, new, old, axis) for old, new, axis in pairs])

    def stored(self, state: Any) -> tuple[Tensor, ...]:
        """Each leaf as checks keep it: ``[first, B, rest...]``."""
        pairs = zip(leaves(state), self.axes, self.rows, strict=True)
        return tuple(leaf.movedim(axis, 0).reshape(-1, *row).transpose(0, 1) for leaf, axis, row in pairs)

    def loaded(self, state: Any, stored: Iterable[Tensor]) -> Any:
        """The inverse, in the layout of ``state``."""
        found = []
        for leaf, axis, value in zip(leaves(state), self.axes, stored, strict=True):
            rows = value.transpose(0, 1)
            shape = list(leaf.shape)
            batch = shape.pop(axis)
            if rows.shape[0] != batch or rows[0].numel() != leaf[:].numel() // max(batch, 1):
                raise ValueError(f"a stored state of {rows.shape[0]} rows was given for a batch of {batch}")
            found.append(rows.reshape(batch, *shape).movedim(0, axis).to(leaf))
        return rebuilt(state, found)


def _row(row: Tensor) -> tuple[int, ...]:
    """At least two axes, so that the batch can stand between them."""
    return (*[1] * (2 - row.dim()), *row.shape)


def _where(reset: Tensor, new: Tensor, old: Tensor, axis: int) -> Tensor:
    shape = [1] * old.dim()
    shape[axis] = -1
    return torch.where(reset.view(shape), new.to(old), old)

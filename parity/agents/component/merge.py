"""Merge layers: several sources, or slices of them, as one tensor."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.settings import ComponentSettings, Source


@dataclass(frozen=True)
class _Cut:
    """What is taken of one source: ``start`` to ``stop`` along ``axis``, the row axis being 0."""

    axis: int
    start: int
    stop: int


class _Merge(Component):
    """Sources ``[N, ...]``, each cut to its ``slice`` along its ``dim``, both keys of the source, as one tensor.

    ``slice`` is ``[start, stop]``, the whole axis if absent; ``dim`` is the axis it counts along, 1 if absent, which is
    the first one behind the rows.
    """

    arity: ClassVar[int | None] = None
    source_keys: ClassVar[frozenset[str]] = frozenset({"slice", "dim"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        pairs = list(zip(settings.sources, inputs, strict=True))
        self.cuts = tuple(_read_cut(settings, source, shape) for source, shape in pairs)
        shapes = [
            (*shape[: cut.axis - 1], cut.stop - cut.start, *shape[cut.axis :])
            for cut, shape in zip(self.cuts, inputs, strict=True)
        ]
        self.output_shape = self._merged_shape(settings, shapes)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Cut each source's tensor and merge what is left."""
        pairs = zip(tensors, self.cuts, strict=True)
        return self._merge([tensor.narrow(cut.axis, cut.start, cut.stop - cut.start) for tensor, cut in pairs])

    def _merged_shape(self, settings: ComponentSettings, shapes: list[Shape]) -> Shape:
        """Return the shape of all, which must be one."""
        if len(set(shapes)) > 1:
            raise settings.error(f"its sources give {_listed(settings, shapes)} per row; they must have one shape")
        return shapes[0]

    @abstractmethod
    def _merge(self, tensors: list[Tensor]) -> Tensor:
        """Merge tensors of the shapes that ``_merged_shape`` accepted."""


class Concat(_Merge):
    """One source behind the other, along ``dim``."""

    def _merged_shape(self, settings: ComponentSettings, shapes: list[Shape]) -> Shape:
        axes = [cut.axis for cut in self.cuts]
        if len(set(axes)) > 1:
            raise settings.error(f"its sources' dim are axes {axes}; give all the same one")
        before = axes[0] - 1
        if len({(shape[:before], shape[axes[0] :]) for shape in shapes}) > 1:
            given = _listed(settings, shapes)
            raise settings.error(f"its sources give {given} per row; they may differ along dim {axes[0]} only")
        return (*shapes[0][:before], sum(shape[before] for shape in shapes), *shapes[0][axes[0] :])

    def _merge(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, dim=self.cuts[0].axis)


class Add(_Merge):
    """The sum."""

    def _merge(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack(tensors).sum(dim=0)


class Subtract(_Merge):
    """The first source minus the second."""

    arity: ClassVar[int | None] = 2

    def _merge(self, tensors: list[Tensor]) -> Tensor:
        first, second = tensors
        return first - second


class Mean(_Merge):
    """The mean."""

    def _merge(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack(tensors).mean(dim=0)


def _read_cut(settings: ComponentSettings, source: Source, shape: Shape) -> _Cut:
    axis, axes = source.options.get("dim", 1), len(shape)
    if not _is_whole(axis) or axis == 0 or not -axes <= axis <= axes:
        raise settings.error(
            f"dim of source {source.name!r} is {axis!r}, but it gives {list(shape)} per row; give 1 to {axes}, the "
            "rows being 0, or count from the end with -1"
        )
    axis = axis if axis > 0 else axes + 1 + axis
    size = shape[axis - 1]
    span = source.options.get("slice")
    if span is None:
        return _Cut(axis, 0, size)
    is_pair = isinstance(span, (list, tuple)) and len(span) == 2 and all(map(_is_whole, span))
    if not is_pair or not 0 <= span[0] < span[1] <= size:
        raise settings.error(
            f"slice of source {source.name!r} is {span!r}; give [start, stop] with 0 <= start < stop <= {size}, its "
            f"size along dim {axis}"
        )
    return _Cut(axis, span[0], span[1])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(settings: ComponentSettings, shapes: list[Shape]) -> str:
    pairs = zip(settings.sources, shapes, strict=True)
    return ", ".join(f"{list(shape)} ({source.name})" for source, shape in pairs)

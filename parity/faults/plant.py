"""Planting a change and taking it out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_MISSING = object()


class Patcher:
    """Collects reversible changes: to classes and modules at once, to built sides after each build."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self.hooks: list[Callable[[str, nn.Module], None]] = []

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        """Replace ``owner.name``; an attribute that the owner only inherits is put on it and removed afterwards.

        Raises:
            AttributeError: the owner has no such attribute, so the fault no longer fits the code.
        """
        getattr(owner, name)
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)

        def undo() -> None:
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

        self._undo.append(undo)

    def wrap(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace a method by ``make(original)``."""
        self.attribute(owner, name, make(getattr(owner, name)))

    def built(self, side: str, change: Callable[[Any], None]) -> None:
        """Change each build of one side, as the builder returned it."""

        def hook(built_side: str, module: nn.Module) -> None:
            if built_side == side:
                change(module)

        self.hooks.append(hook)

    def undo(self) -> None:
        """Take every change out again, last first."""
        while self._undo:
            self._undo.pop()()


@contextmanager
def planted(plant: Callable[[Patcher], None]) -> Iterator[Patcher]:
    """Plant a change for the duration of a block."""
    patcher = Patcher()
    try:
        plant(patcher)
        yield patcher
    finally:
        patcher.undo()

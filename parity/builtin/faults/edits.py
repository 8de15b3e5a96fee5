"""Faults that are one piece of a function's source replaced: for functions too long to write out again."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

from parity.faults.plant import Patcher


def edited(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """The function with one piece of its source replaced.

    Raises:
        AttributeError: the piece is not there exactly once, so the fault no longer fits the code.
    """
    original = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(old) != 1:
        raise AttributeError(f"{original.__qualname__} has {old!r} {source.count(old)} times, not once; mend the fault")
    made: dict[str, Any] = {}
    code = compile(f"from __future__ import annotations\n{source.replace(old, new)}", "<fault>", "exec")
    exec(code, original.__globals__, made)
    return made[original.__name__]


def edit(patcher: Patcher, owner: type | ModuleType, name: str, old: str, new: str) -> None:
    """Replace a piece of ``owner.name``'s source; see ``edited``."""
    patcher.attribute(owner, name, edited(getattr(owner, name), old, new))

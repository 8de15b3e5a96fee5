"""Deep copies of policies, many of one: what ``copy.deepcopy`` makes, several times faster.

``copy.deepcopy`` walks a module's dictionaries in Python at every copy. Here the walk is done once, by the pickler,
which follows the same protocol (``__reduce_ex__``) in C; what has a ``__deepcopy__`` of its own is left out of it and
copied that way each time, or cloned, where it is a tensor that shares its storage with no other. Nothing is written
anywhere.
"""

from __future__ import annotations

import copy
import io
import pickle
import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: ``copy.deepcopy`` hands these on as they are, and so do we; local functions and classes cannot be pickled either.
_ATOMIC = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, weakref.ref, property)


def _importable(obj: Any) -> bool:
    """True for what the pickler finds by its name, faster than when it is set aside."""
    found: Any = sys.modules.get(getattr(obj, "__module__", None) or "")
    for name in getattr(obj, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is obj


class _Pickler(pickle.Pickler):
    """Sets aside what it must not walk, numbered: objects to hand on as they are, and objects to copy."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.aside: list[tuple[bool, Any]] = []
        self._numbers: dict[int, int] = {}
        self._walked: dict[type, bool] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Number an object that is set aside; None for one that is walked."""
        kind = type(obj)
        if kind not in self._walked:
            self._walked[kind] = not issubclass(kind, _ATOMIC) and not hasattr(kind, "__deepcopy__")
        if self._walked[kind] or (isinstance(obj, _ATOMIC) and _importable(obj)):
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.aside)
            self.aside.append((not isinstance(obj, _ATOMIC), obj))
        return self._numbers[id(obj)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, walked: bytes, aside: list[tuple[_Copy, Any]]) -> None:
        super().__init__(io.BytesIO(walked))
        self._aside = aside
        self._memo: dict[int, Any] = {}  # one for the whole copy: tensors that share storage go on sharing it

    def persistent_load(self, pid: int) -> Any:
        """Copy or hand on what was set aside."""
        copied, obj = self._aside[pid]
        return copied(obj, self._memo)


_Copy = Callable[[Any, dict[int, Any]], Any]


def _same(obj: Any, memo: dict[int, Any]) -> Any:
    return obj


def _cloned(obj: Tensor, memo: dict[int, Any]) -> Tensor:
    """What a tensor's own ``__deepcopy__`` makes of one that is alone on its storage."""
    if id(obj) not in memo:
        memo[id(obj)] = _like(obj, obj.detach().clone(), memo)
    return memo[id(obj)]


def _viewing(obj: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy that views one copy of the storage, as all others do that shared it.

    Parameters lose that in their own ``__deepcopy__``: a weight that something else is a view of by mistake would be
    right in every copy.
    """
    if id(obj) not in memo:
        storage = obj.untyped_storage()
        key = storage._cdata  # the address of the storage itself: its data has none on the meta device
        if key not in memo:
            memo[key] = storage.clone()
        value = torch.empty(0, dtype=obj.dtype, device=obj.device)
        value.set_(memo[key], obj.storage_offset(), obj.size(), obj.stride())
        memo[id(obj)] = _like(obj, value, memo)
    return memo[id(obj)]


def _like(obj: Tensor, value: Tensor, memo: dict[int, Any]) -> Tensor:
    found = nn.Parameter(value, obj.requires_grad) if isinstance(obj, nn.Parameter) else value
    if vars(obj):
        vars(found).update(copy.deepcopy(vars(obj), memo))
    return found


def _how(aside: list[tuple[bool, Any]]) -> list[tuple[_Copy, Any]]:
    """How each object that was set aside is copied."""

    def plain(obj: Any) -> bool:
        if type(obj) not in (Tensor, nn.Parameter) or obj.layout != torch.strided:
            return False
        return type(obj) is nn.Parameter or not obj.requires_grad

    on_storage = Counter(obj.untyped_storage()._cdata for _, obj in aside if plain(obj))

    def copied(obj: Any) -> _Copy:
        if not plain(obj):
            return copy.deepcopy
        storage = obj.untyped_storage()
        alone = on_storage[storage._cdata] == 1 and storage.nbytes() == obj.nbytes
        return _cloned if alone else _viewing

    return [(copied(obj) if own else _same, obj) for own, obj in aside]


class Original:
    """An object that is copied again and again, and does not change meanwhile but for the values of its tensors."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj
        file = io.BytesIO()
        pickler = _Pickler(file)
        try:
            pickler.dump(obj)
        except Exception:  # whatever a foreign object raises when pickled: deepcopy may still know how
            self._walked = None
        else:
            self._walked, self._aside = file.getvalue(), _how(pickler.aside)

    def copy(self) -> Any:
        """A deep copy."""
        if self._walked is None:
            return copy.deepcopy(self._obj)
        return _Unpickler(self._walked, self._aside).load()

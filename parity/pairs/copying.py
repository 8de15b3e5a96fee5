"""Deep copies of policies, many of one: what ``copy.deepcopy`` makes, several times faster.

``copy.deepcopy`` walks a module's dictionaries in Python at every copy. Here the walk is done once, by the pickler,
which follows the same protocol (``__reduce_ex__``) in C; what has a ``__deepcopy__`` of its own, tensors first of all,
is left out of it and copied that way each time. Nothing is written anywhere.
"""

from __future__ import annotations

import copy
import io
import pickle
import sys
import types
import weakref
from typing import Any

#: ``copy.deepcopy`` hands these on as they are, and so do we; local functions and classes cannot be pickled either.
_ATOMIC = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, weakref.ref, property)


def _importable(obj: Any) -> bool:
    """True for what the pickler finds by its name, faster than when it is set aside."""
    found: Any = sys.modules.get(getattr(obj, "__module__", None) or "")
    for name in getattr(obj, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is obj


class _Pickler(pickle.Pickler):
    """Sets aside what it must not walk: (whether to copy it, the object), numbered."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.aside: list[tuple[bool, Any]] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Number an object that is set aside; None for one that is walked."""
        atomic = isinstance(obj, _ATOMIC)
        if _importable(obj) if atomic else not hasattr(type(obj), "__deepcopy__"):
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.aside)
            self.aside.append((not atomic, obj))
        return self._numbers[id(obj)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, walked: bytes, aside: list[tuple[bool, Any]]) -> None:
        super().__init__(io.BytesIO(walked))
        self._aside = aside
        self._memo: dict[int, Any] = {}  # one for the whole copy: tensors that share storage go on sharing it

    def persistent_load(self, pid: int) -> Any:
        """Copy or hand on what was set aside."""
        own, obj = self._aside[pid]
        return copy.deepcopy(obj, self._memo) if own else obj


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
            self._walked, self._aside = file.getvalue(), pickler.aside

    def copy(self) -> Any:
        """A deep copy."""
        if self._walked is None:
            return copy.deepcopy(self._obj)
        return _Unpickler(self._walked, self._aside).load()

"""Importing a module or a file so that the pairs in it are known: ``--import`` of the command line."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from parity.compare.verdict import Misuse
from parity.pairs.recipe import Pair
from parity.pairs.registry import register, registered_by_hand


def import_pairs(source: str) -> list[Pair]:
    """Import what registers pairs, or holds them as attributes.

    Args:
        source: a module's dotted name, as seen from the current folder, or the path of a Python file. A file is
            imported as pytest would: from the folder above its outermost package.

    Returns:
        The pairs that came with it. Each remembers ``source``, which its commands to reproduce a failure name.

    Raises:
        Misuse: it does not import, or brings no pair; the message names it.
    """
    before, known = set(registered_by_hand()), set(sys.modules)
    module = _import(source)
    found = {name: pair for name, pair in registered_by_hand().items() if name not in before}
    found |= {pair.name: pair for pair in vars(module).values() if isinstance(pair, Pair) and pair.name not in before}
    held = any(isinstance(value, Pair) for value in vars(module).values())
    if not found and not held and module.__name__ not in known:  # what is imported twice brings nothing new
        raise Misuse(
            f"--import {source}: it registers no pair and none is an attribute of it; name the module or the "
            "file that makes one"
        )
    return [register(pair, source=source) for pair in found.values()]


def _import(source: str) -> ModuleType:
    file = Path(source).resolve() if source.endswith(".py") else None
    name, folder = _of_file(Path(source)) if file else (source, Path.cwd())
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        taken = sys.modules.get(name)
        if file and taken is not None and str(file) != str(getattr(taken, "__file__", "")):
            return _under_another_name(file)
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever foreign code raises, the user needs to know whose it is
        raise Misuse(
            f"--import {source}: failed with {type(error).__name__}: {error}; give a module that can be imported from "
            f"{Path.cwd()}, or the path of a Python file"
        ) from error


def _under_another_name(file: Path) -> ModuleType:
    """Import a file whose name another module has, as every ``conftest.py`` has."""
    name = f"parity_import_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None, "it ends in .py"
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _of_file(path: Path) -> tuple[str, Path]:
    """Name to import a file by, and the folder to do so from."""
    if not path.is_file():
        raise Misuse(f"--import {path}: there is no such file below {Path.cwd()}; correct the path")
    path = path.resolve()
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder

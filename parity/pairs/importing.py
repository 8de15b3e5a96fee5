"""Importing a module or a file so that the pairs in it are known: ``--import`` of the command line."""

from __future__ import annotations

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
    before = set(registered_by_hand())
    module = _import(source)
    found = {name: pair for name, pair in registered_by_hand().items() if name not in before}
    found |= {pair.name: pair for pair in vars(module).values() if isinstance(pair, Pair) and pair.name not in before}
    if not found and not any(isinstance(value, Pair) for value in vars(module).values()):
        raise Misuse(
            f"--import {source}: it registers no pair and none is an attribute of it; name the module or the "
            "file that makes one"
        )
    return [register(pair, source=source) for pair in found.values()]


def _import(source: str) -> ModuleType:
    name, folder = _of_file(Path(source)) if source.endswith(".py") else (source, Path.cwd())
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    except Exception as error:  # whatever foreign code raises, the user needs to know whose it is
        raise Misuse(
            f"--import {source}: failed with {type(error).__name__}: {error}; give a module that can be imported from "
            f"{Path.cwd()}, or the path of a Python file"
        ) from error


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

"""Run as a script: the command line of this very parity, on the code of another folder.

Nothing of parity is imported before its place is fixed, for the folder may hold another parity, or the search path
another version of the code under test. Arguments: the folder that holds this parity, the other tree, the search path
below it (``os.pathsep`` between), which parts of parity come from the tree, then the command line.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


class _OfTree(MetaPathFinder):
    """Finds the judged parts of parity in the tree, and nothing else."""

    def __init__(self, package: Path, names: frozenset[str]) -> None:
        self._package, self._names = package, names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See ``importlib``."""
        return PathFinder.find_spec(fullname, [str(self._package)]) if fullname in self._names else None


def main() -> int:
    """Fix where everything comes from, then run the command."""
    harness, tree, below, judged, *command = sys.argv[1:]
    sys.path[:0] = [str(Path(tree, part)) for part in below.split(os.pathsep)]
    spec = importlib.util.spec_from_file_location(
        "parity", Path(harness, "__init__.py"), submodule_search_locations=[harness]
    )
    assert spec is not None and spec.loader is not None, "the harness runs, so its file is there"
    sys.modules["parity"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    if judged:
        names = frozenset(f"parity.{name}" for name in judged.split(","))
        sys.meta_path.insert(0, _OfTree(Path(tree, "parity"), names))

    from parity.cli import main as command_line

    return command_line(command)


if __name__ == "__main__":
    sys.exit(main())

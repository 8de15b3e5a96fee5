"""``--parity-changed``: only the tests of pairs that a change touches. Imports what it needs when it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.compare.verdict import Misuse
from parity.suite.plan import cells_of


def leave_out_untouched(config: pytest.Config, items: list[pytest.Item], base: str) -> str:
    """Deselect the tests of pairs that nothing touched since ``base`` (empty: since the work left the main branch).

    Returns:
        Which pairs were left out and why, or that none was; empty when there is no parity test at all.

    Raises:
        pytest.UsageError: there is no git repository here, or no such revision.
    """
    from parity.golden.repository import root_of
    from parity.golden.touched import change_since, touched

    found = {cells_of(item)[0].pair: item for item in items if cells_of(item)}
    if not found:
        return ""
    root = root_of(config.rootpath)
    if root is None:
        raise pytest.UsageError(f"--parity-changed: {config.rootpath} is in no git work tree; leave the option out")
    try:
        change = change_since(root, base)
    except Misuse as error:
        hint = f"; to name tests, write --parity-changed= before {base}" if Path(base).exists() else ""
        raise pytest.UsageError(f"--parity-changed={base}: {error}{hint}") from error
    pairs = [item.callspec.params["parity_pair"] for item in found.values()]  # type: ignore[attr-defined]
    why = touched(pairs, change, also={name: _files_of(item, root) for name, item in found.items()})
    dropped = [item for item in items if cells_of(item) and cells_of(item)[0].pair not in why]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
    left = [name for name in found if name not in why]
    touching = "; ".join(f"{name} (by {file})" for name, file in why.items())
    if not left:
        return f"every pair is touched by what changed since {change.base}: {touching}"
    line = f"left out: {', '.join(left)}: nothing they import or read changed since {change.base}"
    return f"{line}; judged: {touching}" if why else f"NOTHING JUDGED, no pair is touched; {line}"


def _files_of(item: pytest.Item, root: Path) -> list[Path]:
    """The file of a test and the conftests above it, any of which may have made its pair."""
    folders = [folder for folder in item.path.resolve().parents if folder.is_relative_to(root)]
    return [item.path.resolve(), *(folder / "conftest.py" for folder in folders)]

"""The manifest: the cells that judging the shipped pairs comes to, kept under version control. Does not import torch.

A check that silently stops being generated looks green; compared with a list that only a person changes, it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from parity.results import Cell

PATH = Path(__file__).with_name("manifest.json")
UPDATE = "python -m parity manifest --write"

Manifest = dict[str, list[str]]
"""Pair -> sorted ``check/dtype``; the same on every device."""


def manifest_of(cells: Iterable[Cell]) -> Manifest:
    """The manifest that some cells come to."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        found.setdefault(cell.pair, set()).add(f"{cell.check}/{cell.dtype}")
    return {pair: sorted(names) for pair, names in sorted(found.items())}


def read_manifest(path: Path = PATH) -> Manifest:
    """The manifest as committed; empty when there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def manifest_text(manifest: Manifest) -> str:
    """The manifest as it is written to its file."""
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def lost(manifest: Manifest, cells: Iterable[Cell]) -> list[str]:
    """``pair/check/dtype`` of what the manifest lists and the cells lack."""
    return _difference(manifest, manifest_of(cells))


def gained(manifest: Manifest, cells: Iterable[Cell]) -> list[str]:
    """``pair/check/dtype`` of what the cells hold of the manifest's pairs and the manifest does not list."""
    return _difference({pair: names for pair, names in manifest_of(cells).items() if pair in manifest}, manifest)


def _difference(first: Manifest, second: Manifest) -> list[str]:
    return [f"{pair}/{name}" for pair, names in first.items() for name in names if name not in second.get(pair, [])]

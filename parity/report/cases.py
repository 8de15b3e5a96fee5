"""Stored cases: the shrunk example of a failure as a small JSON file, and the command that runs it again."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.platform_info import versions
from parity.report.files import read_json, require, write_json
from parity.results import Cell, Result

_WHAT = "a stored parity case"


@dataclass(frozen=True)
class StoredCase:
    """A cell, the example that makes it fail, and the versions it failed with."""

    cell: Cell
    example: dict[str, Any]
    versions: dict[str, str]


def store_case(result: Result, folder: Path) -> Path | None:
    """Write a result's example to ``<pair>-<check>-<hash>.json``; the same example always gets the same name.

    Returns:
        The file, or None when the result has no example.

    Raises:
        ReportError: the file system refuses.
    """
    if result.example is None:
        return None
    key = {**vars(result.cell), "example": result.example}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:4]
    path = folder / f"{_file_name(result.pair)}-{result.check}-{digest}.json"
    write_json(path, {**key, "versions": versions()})
    return path


def load_case(path: Path) -> StoredCase:
    """Read a stored case.

    Raises:
        ReportError: the file is missing, truncated, or something else; the message names the file and the field.
    """
    content = read_json(path, _WHAT)
    fields: dict[str, type | tuple[type, ...]] = {name: str for name in ("pair", "check", "device", "dtype")}
    require(content, {**fields, "example": dict, "versions": dict}, path, _WHAT)
    cell = Cell(**{name: content[name] for name in fields})
    return StoredCase(cell, content["example"], content["versions"])


def reproduce_command(result: Result, case: Path | None, *, source: str = "") -> str:
    """The command that shows a result again: on its stored case, or by drawing again when there is none.

    ``source`` is what must be imported first, where the pair comes from no installed package.
    """
    command = f"python -m parity run {shlex.quote(result.pair)} --check {shlex.quote(result.check)}"
    if source:
        command += f" --import {shlex.quote(source)}"
    if case is not None:
        return f"{command} --example {shlex.quote(_shown(case))}"
    return command if result.device == "cpu" else f"{command} --device {result.device}"


def _shown(path: Path) -> str:
    """A path as typed from here, if it lies below here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)

"""Reading and writing JSON files so that a reader never meets half a file, nor mistakes one file for another."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

#: A list that holds neither text nor other lists. Text cannot look like one: it has no line breaks in JSON.
_NUMBERS = re.compile(r'\[\n[^]["{}]*\]')


class ReportError(Exception):
    """A report or case file cannot be used; the message names the file, what is wrong with it and the remedy."""


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, creating its folder.

    Raises:
        ReportError: the file system refuses.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, creating its folder.

    Raises:
        ReportError: the file system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)  # mkstemp makes files that nobody else may read
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}; check the folder and its rights") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as strict JSON, lists of numbers on one line: numbers that JSON does not have become null.

    Raises:
        ReportError: the file system refuses.
    """
    text = json.dumps(_strict(content), indent=1, allow_nan=False)
    write_text(path, _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        what: what it should be, for the message ("a parity report").

    Raises:
        ReportError: there is no such file, it is no complete JSON, or it holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} is not {what}: it is truncated or no JSON at all ({error}); make it anew") from error
    if not isinstance(content, dict):
        raise ReportError(
            f"{path} is not {what}: it holds a {type(content).__name__}, not an object; "
            "was it written by something else?"
        )
    return content


def require(content: dict[str, Any], fields: dict[str, type | tuple[type, ...]], path: Path, what: str) -> None:
    """Refuse content that lacks a field or holds one of another type.

    Raises:
        ReportError: naming the file and the field.
    """
    for name, kind in fields.items():
        if name not in content:
            raise ReportError(f"{path} is not {what}: field {name!r} is missing; was it written by something else?")
        value = content[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ReportError(f"{path} is not {what}: field {name!r} holds {value!r:.80}; make it anew")


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value

"""The file of a golden trace: tensors once each, named by their content, and one JSON description, as safetensors.

Nothing in it is pickled. Every tensor's name is the hash of what it holds, so equal tensors are kept once, and a
changed byte is noticed; the description carries a checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from parity.report.files import ReportError, write_bytes

#: The number rises when an older reader would misread the file.
FORMAT, VERSION = "parity-golden", 1
_METADATA_KEY = "golden"  # one key only: safetensors keeps several in no fixed order
_AGAIN = "record it again with `python -m parity record PAIR --to FILE` where the old code still is"


class Keep:
    """Collects the tensors of a recording."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def tensor(self, value: Tensor) -> str:
        """Keep a copy of a tensor; return its name."""
        # a clone, because an axis of length 1 may have any stride and still count as contiguous
        kept = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        name = content_hash(kept)
        self._tensors.setdefault(name, kept)
        return name

    def write(self, path: Path, description: dict[str, Any]) -> int:
        """Write the file whole or not at all; equal recordings give equal bytes.

        Returns:
            Its size in bytes.

        Raises:
            ReportError: the file system refuses.
        """
        whole = {"format": FORMAT, "version": VERSION, **description}
        whole["sha256"] = _checksum(whole)
        content = save(dict(sorted(self._tensors.items())), metadata={_METADATA_KEY: json.dumps(whole)})
        write_bytes(path, content)
        return len(content)


class Kept:
    """A recording that was read: ``description``, and ``tensor`` by name.

    Raises:
        ReportError: the file is missing, truncated, corrupt, foreign or too new; the message names it and the remedy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ReportError(f"cannot read {path}: {error.strerror or error}; check the path") from error
        try:
            self._tensors = load(content)
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
            self.description = json.loads(metadata[_METADATA_KEY])
        except KeyError as error:
            raise ReportError(f"{path} is a safetensors file and no golden trace of parity; {_AGAIN}") from error
        except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
            raise ReportError(f"{path} is truncated or no safetensors file ({error}); {_AGAIN}") from error
        self._check()

    def _check(self) -> None:
        found = self.description
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("version"), int):
            raise ReportError(f"{self.path} is no golden trace of parity; {_AGAIN}")
        if found["version"] > VERSION:
            raise ReportError(
                f"{self.path} has version {found['version']} of the format and this parity reads up to {VERSION}: a "
                "newer parity wrote it; install that one, or record it again"
            )
        if found.get("sha256") != _checksum(found):
            raise ReportError(f"{self.path} is corrupt: its description does not match its checksum; {_AGAIN}")
        for name, value in self._tensors.items():
            if content_hash(value) != name:
                raise ReportError(f"{self.path} is corrupt: tensor {name} does not hold what its name says; {_AGAIN}")

    def tensor(self, name: str) -> Tensor:
        """A tensor by name, shared: do not write into it.

        Raises:
            ReportError: there is none of that name.
        """
        if name not in self._tensors:
            raise ReportError(f"{self.path} is corrupt: it lacks tensor {name}, which its description names; {_AGAIN}")
        return self._tensors[name]


def content_hash(value: Tensor) -> str:
    """The name of a contiguous CPU tensor: it differs where dtype, shape or a bit differs."""
    digest = hashlib.sha256(f"{value.dtype} {list(value.shape)}\n".encode())
    digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _checksum(description: dict[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()

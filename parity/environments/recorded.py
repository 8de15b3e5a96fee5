"""Recorded episodes: their file format (safetensors with JSON metadata), their loading, and segments cut from them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from parity.agents.config import environment_description
from parity.agents.errors import ConfigError
from parity.agents.interface import PADDING_BYTE, EnvironmentDescription

FORMAT = "parity-recording/1"
_METADATA_KEY = "recording"  # one key only: safetensors keeps several in no fixed order, and bytes must repeat
_TENSORS = {"env_obs": torch.uint8, "dones": torch.bool, "truncateds": torch.bool, "rewards": torch.float32}
_RECORD_AGAIN = "record it again with `python -m parity.environments.record --out fixtures/observations`"


class RecordingError(ValueError):
    """A recording or its file is missing, damaged, foreign or does not fit; the message names it and the remedy."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Consecutive observations of all agents of one environment, over several episodes.

    Args:
        name: what messages and reports call it.
        environment: the environment that the observations came from.
        env_obs: ``[S, N, M, 3]`` uint8: S steps of N agents.
        dones: ``[S, N]`` bool: ``env_obs[t]`` opens an episode, because the one before it terminated.
        truncateds: ``[S, N]`` bool: likewise, because the one before it was cut off.
        rewards: ``[S, N]`` float32: what the action that led to ``env_obs[t]`` earned; 0 at t = 0.
        provenance: how it was recorded, as the file says; empty when built in code.

    Raises:
        RecordingError: a tensor has another shape or dtype.
    """

    name: str
    environment: EnvironmentDescription
    env_obs: Tensor
    dones: Tensor
    truncateds: Tensor
    rewards: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, dtype in _TENSORS.items():
            if getattr(self, key).dtype != dtype:
                raise RecordingError(f"recording {self.name!r}: {key} is {getattr(self, key).dtype}; give {dtype}")
        shape = tuple(self.env_obs.shape)
        if len(shape) != 4 or 0 in shape[:2] or shape[2:] != (self.environment.num_tokens, 3):
            raise RecordingError(
                f"recording {self.name!r}: env_obs has shape {list(shape)}; give [S, N, M, 3] with S, N >= 1 and "
                f"M = {self.environment.num_tokens}, the environment's num_tokens"
            )
        for key in ("dones", "truncateds", "rewards"):
            if tuple(getattr(self, key).shape) != shape[:2]:
                raise RecordingError(
                    f"recording {self.name!r}: {key} has shape {list(getattr(self, key).shape)}; "
                    f"give [S, N] = {list(shape[:2])} as env_obs has"
                )

    @property
    def steps(self) -> int:
        """S, the recorded steps."""
        return self.env_obs.shape[0]

    @property
    def agents(self) -> int:
        """N, the recorded agents."""
        return self.env_obs.shape[1]

    def segment(self, *, batch: int, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut ``batch`` windows of ``steps`` consecutive steps, each of one agent drawn from ``seed`` (>= 0).

        No window is drawn twice while there are enough of them.

        Returns:
            ``(env_obs [B, T, M, 3], dones [B, T], truncateds [B, T])``, copies.

        Raises:
            RecordingError: ``batch`` or ``steps`` is below 1, or the recording is shorter than ``steps``.
        """
        if batch < 1 or not 1 <= steps <= self.steps:
            raise RecordingError(
                f"recording {self.name!r}: cannot cut batch {batch} x steps {steps}; give a batch of at least 1 and "
                f"1 to {self.steps} steps, which is all that was recorded"
            )
        starts = self.steps - steps + 1
        windows = starts * self.agents
        drawn = np.random.default_rng(seed).choice(windows, size=batch, replace=batch > windows)
        window = torch.from_numpy(drawn.astype(np.int64))
        agent = (window // starts)[:, None]
        time = (window % starts)[:, None] + torch.arange(steps)
        return self.env_obs[time, agent], self.dones[time, agent], self.truncateds[time, agent]


def save_recording(recording: Recording, path: Path | str, provenance: Mapping[str, Any]) -> None:
    """Write ``recording`` to ``path``, whole or not at all; the same content always gives the same bytes.

    Padding behind the longest row is left out of the file. ``provenance`` is any JSON mapping that says how the
    recording was made (package version, map, seed).
    """
    path = Path(path)
    used = (recording.env_obs != PADDING_BYTE).any(dim=-1).flatten(0, 1).any(dim=0)
    longest = int(used.nonzero().max()) + 1 if bool(used.any()) else 0
    tensors = {key: getattr(recording, key) for key in _TENSORS} | {"env_obs": recording.env_obs[:, :, :longest]}
    # safetensors refuses tensors that share memory, as `dones` and `truncateds` without any boundary may.
    tensors = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "name": recording.name,
        "environment": _describe(recording.environment),
        "provenance": dict(provenance),
    }
    metadata["sha256"] = _checksum(tensors, metadata)
    content = save(tensors, metadata={_METADATA_KEY: json.dumps(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would follow the file into a checkout
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_recording(path: Path | str) -> Recording:
    """Read a recording that ``save_recording`` wrote; padding is restored to the environment's M.

    Raises:
        RecordingError: the file is missing, truncated, damaged, no recording, or its content does not fit together.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be read ({error.strerror or error}); check the path, or {_RECORD_AGAIN}"
        ) from error
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise RecordingError(f"{path}: no intact safetensors file ({error}); {_RECORD_AGAIN}") from error
    metadata = _read_metadata(content, path)
    _require_tensors(tensors, path)
    if _checksum(tensors, metadata) != metadata["sha256"]:
        raise RecordingError(f"{path}: damaged, its content does not match its stored checksum; {_RECORD_AGAIN}")
    try:
        environment = environment_description(metadata["environment"], source=str(path))
    except ConfigError as error:
        raise RecordingError(f"{path}: its environment is illegal ({error}); {_RECORD_AGAIN}") from error
    try:
        env_obs = _restore_padding(tensors.pop("env_obs"), environment.num_tokens)
        return Recording(metadata["name"], environment, env_obs, **tensors, provenance=metadata["provenance"])
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}, or {_RECORD_AGAIN}") from error


def _describe(environment: EnvironmentDescription) -> dict[str, Any]:
    """The mapping that ``environment_description`` reads back; features keep their order."""
    return {
        "obs_width": environment.obs_width,
        "obs_height": environment.obs_height,
        "num_tokens": environment.num_tokens,
        "action_names": list(environment.action_names),
        "max_action_args": list(environment.max_action_args),
        "features": {
            name: {"id": feature.id, "normalization": feature.normalization}
            for name, feature in environment.features.items()
        },
    }


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over the metadata (save the sum itself) and the tensors: safetensors notices no changed byte of data."""
    described = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(described).encode())
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {list(tensors[key].shape)}\n".encode())
        digest.update(tensors[key].numpy().tobytes())
    return digest.hexdigest()


def _read_metadata(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON mapping in the header of a file that safetensors has already accepted."""
    size = int.from_bytes(content[:8], "little")
    text = (json.loads(content[8 : 8 + size]).get("__metadata__") or {}).get(_METADATA_KEY)
    if text is None:
        raise RecordingError(
            f"{path}: a safetensors file, but no recording (no {_METADATA_KEY!r} metadata); {_RECORD_AGAIN}"
        )
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise RecordingError(
            f"{path}: its {_METADATA_KEY!r} metadata is not JSON ({error}); {_RECORD_AGAIN}"
        ) from error
    found = metadata.get("format") if isinstance(metadata, dict) else metadata
    if found != FORMAT:
        raise RecordingError(f"{path}: its format is {found!r}, this version reads {FORMAT!r}; {_RECORD_AGAIN}")
    for key, kind in {"name": str, "environment": dict, "provenance": dict, "sha256": str}.items():
        if not isinstance(metadata.get(key), kind):
            raise RecordingError(
                f"{path}: its metadata has {key} = {metadata.get(key)!r}, no {kind.__name__}; {_RECORD_AGAIN}"
            )
    return metadata


def _require_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse missing and further tensors."""
    missing, unknown = sorted(set(_TENSORS) - set(tensors)), sorted(set(tensors) - set(_TENSORS))
    if missing:
        raise RecordingError(f"{path}: lacks the tensor {missing[0]!r}; {_RECORD_AGAIN}")
    if unknown:
        raise RecordingError(f"{path}: holds an unknown tensor {unknown[0]!r}; {_RECORD_AGAIN}")


def _restore_padding(stored: Tensor, num_tokens: int) -> Tensor:
    """``[S, N, K, 3]`` to ``[S, N, M, 3]``; what is no such tensor is returned as it is, for Recording to refuse."""
    if stored.ndim != 4 or stored.shape[3] != 3 or stored.shape[2] > num_tokens:
        return stored
    env_obs = stored.new_full((*stored.shape[:2], num_tokens, 3), PADDING_BYTE)
    env_obs[:, :, : stored.shape[2]] = stored
    return env_obs

"""A run's figures as JSON lines, and a trace of shapes and recurrent states for when something looks wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import Policy
from parity.training.observer import TrainingObserver


class JsonLines:
    """Appends one JSON object per line, each flushed at once; infinities and NaN, which JSON lacks, become null.

    A line that a killed process left unfinished is removed on opening. A resumed run repeats the updates after its
    checkpoint: of two lines for one update, the later counts.

    Args:
        path: created with its folder.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the object
        self._file.truncate(content.rfind(b"\n") + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(_strict(record), allow_nan=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Trace(TrainingObserver):
    """Writes a line per policy call in rollouts: each entry's shape, and statistics of each stored recurrent state.

    Args:
        lines: where to.
        policy: whose memory is looked at. It is copied at every call, so tracing costs time.
    """

    def __init__(self, lines: JsonLines, policy: Policy) -> None:
        self._lines, self._policy = lines, policy

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """Write the line."""
        memory = {
            str(env_id): {"h": _statistics(h), "c": _statistics(c)}
            for env_id, (h, c) in self._policy.get_memory().items()
        }
        shapes = {str(key): [str(value.dtype).removeprefix("torch."), *value.shape] for key, value in td.items()}
        self._lines.write({"update": update, "step": step, "entries": shapes, "memory": memory})


def _statistics(state: Tensor) -> dict[str, float]:
    return {
        "mean": float(state.mean()),
        "std": float(state.std(correction=0)),
        "largest": float(state.abs().max()),
    }


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value

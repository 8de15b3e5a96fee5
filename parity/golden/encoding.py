"""Traces as JSON beside named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.checks.case import Expectation, Run
from parity.compare.probes import Call
from parity.compare.reruns import Distances
from parity.compare.trace import Entry, Place, Trace
from parity.compare.verdict import Inconclusive, Misuse
from parity.golden.store import Keep, Kept


class NotKept:
    """Stands for an input of a component that a file cannot hold, such as a named tuple; equals nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Recorded:
    """A run of the recorded side, all that its rounding is measured by, and its backward replays."""

    run: Run
    reruns: list[dict[Place, float]]
    wide: Trace | None
    pulled: Mapping[int, Mapping[int, Tensor]]  # number of a call -> gradients of its inputs


def encode_run(recorded: Recorded, keep: Keep) -> dict[str, Any]:
    """A JSON-able description; tensors go to ``keep``."""
    return {
        "trace": [_encode_entry(place, entry, recorded, keep) for place, entry in recorded.run.trace],
        "calls": [_encode_call(call, recorded.pulled.get(n), keep) for n, call in enumerate(recorded.run.calls)],
        "reruns": len(recorded.reruns),
        "sequence": recorded.run.trace.sequence,
    }


def decode_run(content: Mapping[str, Any], kept: Kept) -> Expectation:
    """The inverse, as a case expects it."""
    trace, wide = Trace(), Trace()
    trace.sequence = None if content["sequence"] is None else tuple(content["sequence"])
    distances: list[dict[Place, float]] = [{} for _ in range(content["reruns"])]
    for entry in content["trace"]:
        place = Place(*entry["at"])
        trace.entries[place] = _decode_entry(entry, kept)
        for moved, distance in zip(distances, entry.get("moved", ()), strict=False):
            if distance is not None:
                moved[place] = distance
        if "wide" in entry:
            wide.entries[place] = Entry(kept.tensor(entry["wide"]))

    def rerun(number: int) -> Distances:
        if number >= len(distances):
            raise Inconclusive(f"{kept.path} holds {len(distances)} reruns and rerun {number + 1} is asked for")
        return distances[number]

    return Expectation(Run(trace, [_decode_call(call, kept) for call in content["calls"]]), rerun, lambda: wide)


def _encode_entry(place: Place, entry: Entry, recorded: Recorded, keep: Keep) -> dict[str, Any]:
    scale = entry.scale() if callable(entry.scale) else entry.scale
    rest = {
        "judged": entry.judged,
        "scale": scale,
        "absolute": entry.absolute,
        "from_probe": entry.from_probe or None,
        "independent": entry.independent,
    }
    found = {"at": list(asdict(place).values()), "value": encode(entry.value, keep)}
    found |= {key: value for key, value in rest.items() if value is not None}
    moved = [rerun.get(place) for rerun in recorded.reruns]
    if any(distance is not None for distance in moved):
        found["moved"] = moved
    wide = recorded.wide.entries.get(place) if recorded.wide is not None else None
    if wide is not None and isinstance(wide.value, Tensor):
        found["wide"] = keep.tensor(wide.value)
    return found


def _decode_entry(entry: Mapping[str, Any], kept: Kept) -> Entry:
    return Entry(
        decode(entry["value"], kept),
        entry["judged"],
        entry.get("scale"),
        entry.get("absolute"),
        bool(entry.get("from_probe")),
        entry.get("independent"),
    )


def _encode_call(call: Call, pulled: Mapping[int, Tensor] | None, keep: Keep) -> dict[str, Any]:
    return {
        "at": list(asdict(call.place).values()),
        "component": call.component,
        "inputs": [_encode_part(part, keep) for part in call.inputs],
        "keywords": [[name, _encode_part(part, keep)] for name, part in call.keywords.items()],
        "outputs": [_encode_part(part, keep) for part in call.outputs],
        "gradients": [[number, keep.tensor(value)] for number, value in call.gradients.items()],
        "pulled": None if pulled is None else [[number, keep.tensor(value)] for number, value in pulled.items()],
        "mask": call.mask,
    }


def _decode_call(call: Mapping[str, Any], kept: Kept) -> Call:
    def tensors(pairs: list[Any]) -> dict[int, Tensor]:
        return {number: kept.tensor(name) for number, name in pairs}

    return Call(
        call["component"],
        Place(*call["at"]),
        tuple(decode(part, kept) for part in call["inputs"]),
        tuple(decode(part, kept) for part in call["outputs"]),
        keywords={name: decode(part, kept) for name, part in call.get("keywords", [])},
        gradients=tensors(call["gradients"]),
        mask=call["mask"],
        pulled=tensors(call["pulled"] or []),
    )


def _encode_part(part: Any, keep: Keep) -> Any:
    """What a component was given: all that a file can hold, and a note on each part that it cannot."""
    if type(part) in (tuple, list):
        return {type(part).__name__: [_encode_part(item, keep) for item in part]}
    if type(part) is dict:
        return {"dict": [[_encode_part(key, keep), _encode_part(item, keep)] for key, item in part.items()]}
    try:
        return encode(part, keep)
    except Misuse:
        return {"not kept": type(part).__name__}


def encode(value: Any, keep: Keep) -> Any:
    """A tensor or a plain fact as JSON.

    Raises:
        Misuse: it is neither.
    """
    if isinstance(value, Tensor):
        return {"tensor": keep.tensor(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return {type(value).__name__: [encode(item, keep) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": [encode(item, keep) for item in sorted(value, key=repr)]}
    if type(value) is TensorDict:
        return {"tensordict": [list(value.batch_size), [[key, encode(item, keep)] for key, item in value.items()]]}
    if type(value) is dict:
        return {"dict": [[encode(key, keep), encode(item, keep)] for key, item in value.items()]}
    raise Misuse(
        f"a check recorded {value!r:.80} of type {type(value).__name__}, which a golden trace cannot hold; record "
        "tensors, numbers, texts, or lists, tuples, sets, dicts and TensorDicts of these"
    )


def decode(content: Any, kept: Kept) -> Any:
    """The inverse of ``encode``."""
    if not isinstance(content, dict):
        return content
    ((kind, value),) = content.items()
    if kind == "tensor":
        return kept.tensor(value)
    if kind == "dtype":
        return getattr(torch, value)
    if kind == "dict":
        return {decode(key, kept): decode(item, kept) for key, item in value}
    if kind == "not kept":
        return NotKept(value)
    if kind == "tensordict":
        size, items = value
        return TensorDict({key: decode(item, kept) for key, item in items}, batch_size=size)
    return {"tuple": tuple, "list": list, "set": set}[kind](decode(item, kept) for item in value)

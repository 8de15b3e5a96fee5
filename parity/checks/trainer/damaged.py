"""Files that are no checkpoint, and how an attempt to read one must end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from parity.compare.bounds import same_bits

REFUSED = "refused"


def damaged(content: bytes, permille: int) -> dict[str, bytes]:
    """What may stand in a checkpoint's place; damage is done at so many thousandths of its length."""
    place = len(content) * permille // 1000
    flipped = bytearray(content)
    flipped[place] ^= 1 << permille % 8
    return {
        "a truncated file": content[:place],
        "a corrupt file": bytes(flipped),
        "an empty file": b"",
        "a JSON file": json.dumps({"weight": 0}).encode(),
        "foreign tensors": safetensors.torch.save({"weight": torch.zeros(2)}),
    }


def attempted(call: Callable[[], None], path: Path, policy: Any) -> str:
    """How reading a file ends: ``REFUSED`` by an error that names it, with nothing changed, or what went otherwise."""
    content, before = path.read_bytes(), copy.deepcopy(policy.state_dict())
    names = (policy.original_feature_mapping(), policy.action_rows())
    try:
        call()
    except Exception as error:
        found = REFUSED if str(path) in str(error) else f"refused without the file's name: {error}"
    else:
        return "accepted"
    if path.read_bytes() != content:
        return f"{found}, but the file changed"
    after = policy.state_dict()
    same = all(same_bits(value, after[name]) for name, value in before.items())
    if not same or names != (policy.original_feature_mapping(), policy.action_rows()):
        return f"{found}, but the policy changed"
    return found

"""Files that are no checkpoint of a policy, and how an attempt to read one must end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from parity.checks.case import Case
from parity.checks.draw import sized, with_sizes
from parity.compare.bounds import same_bits
from parity.pairs.recipe import Recipe

REFUSED = "refused"
OTHER_SIZES = "an agent's of other sizes"
#: Agents whose parameters have other names, and the number of their recurrent layers.
OTHER_LAYERS = {"an agent's of fewer layers": 1, "an agent's of more layers": 3}
_CORE = "_core_"


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


def other_agents(case: Case, recipe: Recipe) -> dict[str, Recipe]:
    """Recipes of agents of the recipe's class that cannot take its weights; none of a pair that names no sizes."""
    small, found = sized(case.recipe(), case.pair, "varied"), {}
    others = (with_sizes(small, {path: value}) for path, values in case.pair.sizes.items() for value in values)
    resized = next((other for other in others if other not in (small, recipe)), None)
    if resized is not None:
        found[OTHER_SIZES] = resized
    if "num_layers" in small.config.components.get(_CORE, {}).get("nn_params", {}):
        found |= {k: with_sizes(small, {(_CORE, "nn_params", "num_layers"): n}) for k, n in OTHER_LAYERS.items()}
    return found


class Unchanged:
    """A policy that no refusal may change: what it held before all of them."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._values = {name: value.clone() for name, value in policy.state_dict().items()}
        self._names = self._read_names()

    def holds(self) -> bool:
        """Whether it still does."""
        after = self._policy.state_dict()
        same = all(same_bits(value, after[name]) for name, value in self._values.items())
        return same and self._names == self._read_names()

    def _read_names(self) -> tuple[Any, Any]:
        return copy.deepcopy((self._policy.original_feature_mapping(), self._policy.action_rows()))


def attempted(call: Callable[[], object], path: Path, policy: Unchanged) -> str:
    """How reading a file ends: ``REFUSED`` by an error that names it, with nothing changed, or what went otherwise."""
    content = path.read_bytes()
    try:
        call()
    except Exception as error:
        found = REFUSED if str(path) in str(error) else f"refused without the file's name: {error}"
    else:
        return "accepted"
    if path.read_bytes() != content:
        return f"{found}, but the file changed"
    return found if policy.holds() else f"{found}, but the policy changed"

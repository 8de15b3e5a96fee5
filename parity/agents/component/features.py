"""Feature ids over changing environments: names decide, ids are remapped to those first seen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from parity.agents.errors import ConfigError
from parity.agents.interface import UNKNOWN_FEATURE_ID, Feature


class FeatureTable(nn.Module):
    """The stored name -> id mapping, and the remapping of the active feature table's ids to it.

    Attributes:
        stored: feature name -> id, as first activated, learned since, or restored.
        active: whether any feature table was activated.
    """

    remap: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, int] = {}
        self.active = False
        # uint8 [256], new id -> stored id. Not persistent: activation writes it anew.
        self.register_buffer("remap", torch.arange(256, dtype=torch.uint8, device="cpu"), persistent=False)
        self.is_identity = True

    def activate(self, features: Mapping[str, Feature], *, learn: bool) -> dict[int, float]:
        """Adopt a feature table.

        Args:
            features: name -> feature.
            learn: whether names not stored yet are given an id; otherwise they become unknown.

        Returns:
            The normalisation of each stored id that the table has a feature for.

        Raises:
            ConfigError: ids are illegal or repeated, a normalisation is not positive, or no id is free for a new name.
        """
        _check(features)
        stored = dict(self.stored)
        if stored:
            remap = [UNKNOWN_FEATURE_ID] * 256
            for name, feature in features.items():
                if name not in stored and learn:
                    stored[name] = _id_to_learn(name, feature.id, stored)
                remap[feature.id] = stored.get(name, UNKNOWN_FEATURE_ID)
        else:
            remap = list(range(256))
            stored = {name: feature.id for name, feature in features.items()}
        self.stored, self.active = stored, True
        self.is_identity = remap == list(range(256))
        self.remap = torch.tensor(remap, dtype=torch.uint8, device=self.remap.device)
        return {stored[name]: feature.normalization for name, feature in features.items() if name in stored}

    def restore(self, mapping: Mapping[str, int]) -> None:
        """Replace the stored mapping; an empty one means that nothing was stored yet.

        Raises:
            ConfigError: an id is not a whole number in 0..254, or two names share one.
        """
        if mapping:
            _check({name: Feature(number) for name, number in mapping.items()})
        self.stored = dict(mapping)

    def apply_to(self, tokens: Tensor) -> Tensor:
        """Return tokens ``[N, M, 3]`` with remapped feature ids; the given tensor stays as it is."""
        if self.is_identity:
            return tokens
        byte, feature, value = tokens.unbind(-1)
        return torch.stack([byte, self.remap[feature.long()], value], dim=-1)


def _check(features: Mapping[str, Feature]) -> None:
    if not features:
        raise ConfigError("feature table is empty; give at least one feature with an id")
    seen: dict[int, str] = {}
    for name, feature in features.items():
        number, divisor = feature.id, feature.normalization
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < UNKNOWN_FEATURE_ID:
            raise ConfigError(f"feature {name!r} has id {number!r}; ids are whole numbers in 0..254")
        if number in seen:
            raise ConfigError(f"features {seen[number]!r} and {name!r} share id {number}; give each its own")
        if not 0.0 < divisor < float("inf"):
            raise ConfigError(f"feature {name!r} has normalization {divisor!r}; it must be positive and finite")
        seen[number] = name


def _id_to_learn(name: str, wanted: int, stored: Mapping[str, int]) -> int:
    """Return the feature's own id if it is free, else the lowest free one."""
    held = set(stored.values())
    for number in (wanted, *range(UNKNOWN_FEATURE_ID)):
        if number not in held:
            return number
    raise ConfigError(f"feature {name!r} cannot be learned: all {UNKNOWN_FEATURE_ID} ids are held; drop unused ones")

"""Feature ids by name: what later environments' ids mean to a policy that first saw other ids."""

from __future__ import annotations

import math
from collections.abc import Mapping

from parity.agents.errors import ConfigError
from parity.agents.interface import UNKNOWN_FEATURE_ID, Feature


class FeatureTable:
    """The stored mapping name -> id, and the remapping of a new environment's ids to it."""

    def __init__(self) -> None:
        self._stored: dict[str, int] = {}
        self.is_active = False

    @property
    def stored(self) -> dict[str, int]:
        """A copy of the stored mapping; empty before the first activation."""
        return dict(self._stored)

    def restore(self, mapping: Mapping[str, int]) -> None:
        """Replace the stored mapping; the next activation remaps to it (an empty one makes it a first one again).

        Raises:
            ConfigError: an id is illegal or held twice.
        """
        _check_ids(mapping, "restored feature mapping")
        self._stored = dict(mapping)

    def activate(self, features: Mapping[str, Feature], *, learn: bool) -> tuple[list[int], dict[int, float]]:
        """Adopt a feature table.

        Args:
            features: the environment's features by name.
            learn: store unknown features rather than map them to 255.

        Returns:
            The remapping of all 256 ids, and the normalisation of each stored id that the table maps to.

        Raises:
            ConfigError: an id or normalisation is illegal, or no id is left for a new feature; nothing changes then.
        """
        _check_ids({name: feature.id for name, feature in features.items()}, "feature table")
        for name, feature in features.items():
            if not (feature.normalization > 0.0 and math.isfinite(feature.normalization)):
                raise ConfigError(
                    f"feature table: feature {name!r} has normalization {feature.normalization!r}; "
                    "give a positive, finite number"
                )
        if self._stored:
            stored, remap = self._remapped(features, learn)
        else:
            stored, remap = {name: feature.id for name, feature in features.items()}, list(range(256))
        self._stored, self.is_active = stored, True
        normalizations = {
            remap[feature.id]: feature.normalization
            for feature in features.values()
            if remap[feature.id] != UNKNOWN_FEATURE_ID
        }
        return remap, normalizations

    def _remapped(self, features: Mapping[str, Feature], learn: bool) -> tuple[dict[str, int], list[int]]:
        stored = dict(self._stored)
        remap = [UNKNOWN_FEATURE_ID] * 256
        for name, feature in features.items():
            if name not in stored and learn:
                stored[name] = _free_id(feature.id, set(stored.values()), name)
            remap[feature.id] = stored.get(name, UNKNOWN_FEATURE_ID)
        return stored, remap


def _free_id(wanted: int, taken: set[int], name: str) -> int:
    if wanted not in taken:
        return wanted
    for candidate in range(UNKNOWN_FEATURE_ID):
        if candidate not in taken:
            return candidate
    raise ConfigError(f"feature table: no id is left for the new feature {name!r}; all of 0..254 are in use")


def _check_ids(ids: Mapping[str, int], what: str) -> None:
    owner: dict[int, str] = {}
    for name, number in ids.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < UNKNOWN_FEATURE_ID:
            raise ConfigError(f"{what}: feature {name!r} has id {number!r}; ids are whole numbers in 0..254")
        if number in owner:
            raise ConfigError(f"{what}: features {owner[number]!r} and {name!r} share id {number}")
        owner[number] = name

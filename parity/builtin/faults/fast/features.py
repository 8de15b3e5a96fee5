"""Faults in the remapping of feature ids by name, and in the normalisations that come with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parity.agents.interface import Feature
from parity.agents.pytorch import features
from parity.agents.pytorch.features import FeatureTable
from parity.agents.pytorch.layers import TokensToBox
from parity.builtin.faults.edits import edit
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: feature remapping for new environments"
MUTANT = "a mutant of the candidate that no check saw"
Encoding = tuple[list[int], dict[int, float]]
"""The remapping of all 256 ids, and the normalisations by stored id."""


def _change_activation(
    patch: Patcher, change: Callable[[FeatureTable, Mapping[str, Feature], Encoding, dict[str, int]], Encoding]
) -> None:
    """Alter what every activation but the first returns, by ``change(table, features, encoding, stored_before)``."""

    def make(original: Callable[..., Encoding]) -> Callable[..., Encoding]:
        def activate(self: FeatureTable, features: Mapping[str, Feature], *, learn: bool) -> Encoding:
            before = self.stored
            encoding = original(self, features, learn=learn)
            return change(self, features, encoding, before) if before else encoding

        return activate

    patch.wrap(FeatureTable, "activate", make)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="_obs_", phase="rollout")
def feature_remapping_ignored(patch: Patcher) -> None:
    """Tokens keep the ids of the new environment."""
    _change_activation(patch, lambda table, features, encoding, before: (list(range(256)), encoding[1]))


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="_obs_", phase="rollout")
def unused_feature_ids_kept(patch: Patcher) -> None:
    """Ids that the new environment does not use still reach the box under their old meaning."""

    def change(
        _table: FeatureTable, features: Mapping[str, Feature], encoding: Encoding, _before: dict[str, int]
    ) -> Encoding:
        used = {feature.id for feature in features.values()}
        return [target if number in used else number for number, target in enumerate(encoding[0])], encoding[1]

    _change_activation(patch, change)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="obs_normalizer", phase="rollout")
def normalisations_not_updated(patch: Patcher) -> None:
    """A new environment's normalisations are dropped."""
    _change_activation(patch, lambda table, features, encoding, before: (encoding[0], {}))


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="obs_normalizer", phase="rollout")
def normalisation_under_the_new_id(patch: Patcher) -> None:
    """A normalisation is set for the layer of the environment's own id instead of the one it is remapped to."""

    def change(
        _table: FeatureTable, features: Mapping[str, Feature], encoding: Encoding, _before: dict[str, int]
    ) -> Encoding:
        return encoding[0], {feature.id: feature.normalization for feature in features.values()}

    _change_activation(patch, change)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="original_feature_mapping", phase="build")
def stored_features_overwritten(patch: Patcher) -> None:
    """Each activation becomes the one that later ones are remapped to."""

    def change(
        table: FeatureTable, features: Mapping[str, Feature], encoding: Encoding, _before: dict[str, int]
    ) -> Encoding:
        table.restore({name: feature.id for name, feature in features.items()})
        return encoding

    _change_activation(patch, change)


def _learn(patch: Patcher, always: bool) -> None:
    def make(original: Callable[..., Encoding]) -> Callable[..., Encoding]:
        return lambda self, features, *, learn: original(self, features, learn=always)

    patch.wrap(FeatureTable, "activate", make)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="original_feature_mapping", phase="build")
def unknown_features_learned_in_eval_mode(patch: Patcher) -> None:
    """An evaluation environment's unknown features get ids, and so layers that were never trained."""
    _learn(patch, True)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="original_feature_mapping", phase="build")
def unknown_features_not_learned_in_training(patch: Patcher) -> None:
    """Unknown features are ignored in training mode too."""
    _learn(patch, False)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="original_feature_mapping", phase="build")
def new_feature_takes_an_id_in_use(patch: Patcher) -> None:
    """A new feature is stored under its own id even if a known one holds it."""
    patch.attribute(features, "_free_id", lambda wanted, taken, name: wanted)


@CATALOGUE.fault(origin=UPSTREAM, check="features", component="original_feature_mapping", phase="build")
def restoring_the_feature_mapping_does_nothing(patch: Patcher) -> None:
    """The mapping that a checkpoint brings along is dropped."""
    patch.attribute(FeatureTable, "restore", lambda self, mapping: None)


@CATALOGUE.fault(origin=MUTANT, check="features", component="original_feature_mapping", phase="build")
def restored_features_merge(patch: Patcher) -> None:
    """A mapping that is restored joins the one that is there, instead of replacing it."""
    edit(patch, FeatureTable, "restore", "self._stored = dict(mapping)", "self._stored.update(mapping)")


@CATALOGUE.fault(origin=MUTANT, check="features", component="original_feature_mapping", phase="build")
def new_feature_takes_the_next_free_id(patch: Patcher) -> None:
    """A new feature whose id is taken is given the next free one above it, not the lowest."""
    edit(patch, features, "_free_id", "range(UNKNOWN_FEATURE_ID)", "range(wanted, UNKNOWN_FEATURE_ID)")


@CATALOGUE.fault(origin=MUTANT, check="features", component="obs_normalizer", phase="rollout")
def equal_ids_skip_normalisations(patch: Patcher) -> None:
    """A table of the same ids as the one before is taken for the same table."""

    def make(original: Callable[..., Encoding]) -> Callable[..., Encoding]:
        def activate(self: FeatureTable, features: Mapping[str, Feature], *, learn: bool) -> Encoding:
            ids = {name: feature.id for name, feature in features.items()}
            seen, stored, encoding = vars(self).get("last_seen", (None, None, None))
            if encoding is None or (seen, stored) != (ids, self.stored):
                encoding = original(self, features, learn=learn)
            vars(self)["last_seen"] = (ids, self.stored, encoding)
            return encoding

        return activate

    patch.wrap(FeatureTable, "activate", make)


@CATALOGUE.fault(origin=MUTANT, check="forward", component="_obs_", phase="forward")
def last_column_taken_for_padding(patch: Patcher) -> None:
    """All of column x = 15 counts as padding, not the one byte 255; only a box 16 wide has that column."""
    edit(patch, TokensToBox, "set_feature_remap", "slots[PADDING_BYTE] = padding", "slots[0xF0:] = padding")

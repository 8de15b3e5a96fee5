"""The catalogue of pair `fast`, filled: importing the modules declares their faults and controls."""

from __future__ import annotations

from parity.builtin.faults.fast import (
    actions,
    checkpoints,
    circumstances,
    clipping,
    configuration,
    controls,
    encoder,
    features,
    fields,
    heads,
    memory,
    misuse,
    observations,
    platform,
    refusals,
    resets,
    shared,
    training_objective,
    training_shared,
    training_steps,
    weights,
)
from parity.builtin.faults.fast.catalogue import CATALOGUE

__all__ = ["CATALOGUE", "DECLARING"]

#: The modules whose import declares something.
DECLARING = (
    actions,
    checkpoints,
    circumstances,
    clipping,
    configuration,
    controls,
    encoder,
    features,
    fields,
    heads,
    memory,
    misuse,
    observations,
    platform,
    refusals,
    resets,
    shared,
    training_objective,
    training_shared,
    training_steps,
    weights,
)

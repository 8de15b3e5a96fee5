"""The warning for tokens that are ignored: one in a policy's life, for whatever reason, and none without one."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from tensordict import TensorDict

from parity.agents.errors import IgnoredTokensWarning
from parity.agents.interface import ENV_OBS
from parity.checks.case import Case
from parity.checks.draw import Scene
from parity.pairs.subjects import Subject

#: Tokens that are ignored: why -> (coordinate, feature id, value).
_IGNORED = {"an unknown id": (0x00, 254, 1), "a place outside the box": (0xFD, 0, 1)}
WARNED = {**{f"warnings for {why} in four calls": 1 for why in _IGNORED}, "warnings without ignored tokens": 0}


def warned(subject: Subject, scene: Scene, case: Case) -> dict[str, Any]:
    """A policy warns once in its life, in either mode, and only when there is something to warn of."""
    environment = subject.recipe.environment
    found = {}
    for name, token in zip(WARNED, (*_IGNORED.values(), None), strict=True):
        fresh = subject.copy()
        observations = case.pair.generate(environment, rows=4, seed=scene.seed, noise=False)
        if token is not None:
            observations[0, 0] = torch.tensor(token, dtype=torch.uint8)
        observations = observations.to(subject.device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for call in range(4):
                fresh.policy.train(bool(call % 2) == bool(scene.seed % 2))
                if call == 2:
                    fresh.policy.initialize_to_environment(environment)
                fresh.policy(TensorDict({ENV_OBS: observations.clone()}, batch_size=[4]))
        found[name] = sum(issubclass(entry.category, IgnoredTokensWarning) for entry in caught)
    return found

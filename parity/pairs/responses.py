"""What both sides of a pair return on weights that are given to them: how a parameter map is told right from wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from parity.agents.interface import ACT_LOG_PROB, ENV_OBS
from parity.conditions import seed_global
from parity.pairs.parameters import ParameterLink, ParameterMap, declared_map
from parity.pairs.recipe import Pair, Recipe
from parity.pairs.subjects import Subject

Build = Callable[[str, Recipe], Subject]
"""Builds one side afresh."""

ROWS, STEPS = 6, 3
#: Outputs that are this share of their size apart are the same: the rounding of a forward pass in float64 is far below.
AGREE = 1e-9


class BothSides:
    """Both sides, built in float64 on the CPU, ready to be given other weights."""

    def __init__(self, pair: Pair, build: Build) -> None:
        recipe = pair.recipe.with_system(dtype=torch.float64, device="cpu")
        self._subjects: dict[str, Subject] = {}
        for side in ("reference", "candidate"):
            self._subjects[side] = subject = build(side, recipe)
            subject.keep()
        self._observations = [pair.generate(recipe.environment, rows=ROWS, seed=seed) for seed in range(STEPS)]

    def module(self, side: str) -> nn.Module:
        """One side as it was built."""
        return self._subjects[side].policy

    def values(self, side: str) -> dict[str, Tensor]:
        """One side's initial weights."""
        return {name: value.detach() for name, value in self._subjects[side].policy.named_parameters()}

    def checked(self, links: Iterable[ParameterLink]) -> ParameterMap:
        """Links as a map.

        Raises:
            Inconclusive: they do not cover every parameter exactly once.
        """
        return declared_map(links, self.module("reference"), self.module("candidate"))

    def respond(self, side: str, weights: Mapping[str, Tensor]) -> Tensor:
        """What a side returns over some steps on other weights, but for what depends on what it sampled."""
        subject = self._subjects[side].copy()
        parts = []
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            seed_global(0)
            for name, parameter in subject.policy.named_parameters():
                parameter.copy_(weights[name])
            for observations in self._observations:
                td = TensorDict({ENV_OBS: observations.clone()}, batch_size=[ROWS])
                given = set(td.keys())
                out = subject.policy(td)
                parts += [
                    out[key].double().flatten()
                    for key in sorted(set(out.keys()) - given - {ACT_LOG_PROB})
                    if isinstance(out[key], Tensor) and out[key].is_floating_point()
                ]
        return torch.cat(parts)

    def apart(self, links: ParameterMap) -> float | None:
        """How far the sides are apart on other weights that are given through a map, as a share of the outputs' size.

        None when they return other numbers of values.
        """
        weights = {
            name: torch.randn(value.shape, generator=torch.Generator().manual_seed(n), dtype=value.dtype)
            / value[:1].numel() ** 0.5
            for n, (name, value) in enumerate(self.values("reference").items())
        }
        mine = self.respond("reference", weights)
        theirs = self.respond("candidate", links.to_candidate(weights, self.values("candidate")))
        if mine.shape != theirs.shape:
            return None
        return float((mine - theirs).norm() / mine.norm().clamp_min(1e-300))

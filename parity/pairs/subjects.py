"""The two sides of a pair as they are run: modules with what made them, to be copied, and moved by one ulp."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.compare.bounds import move_one_ulp
from parity.pairs.copying import Original
from parity.pairs.parameters import ParameterMap
from parity.pairs.recipe import Recipe


@dataclass
class Subject:
    """One side, ready to run: the module, and how its float inputs are made."""

    side: str
    policy: Any  # an nn.Module that offers parity.agents.interface.Policy
    recipe: Recipe
    nudge: int | None = None  # set on ulp-moved twins: their float inputs move as well
    evaluating: bool = False  # copies are put into eval mode; else they stay in the mode that they were built in
    drew_globally: bool = False  # building it drew from torch's global generator
    to_reference: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict  # set on candidates: the parameter map

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype under test."""
        return self.recipe.system.dtype

    @property
    def device(self) -> str:
        """The device under test."""
        return self.recipe.system.device

    def floats(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Standard normal input, drawn in float32 so that every dtype sees the same numbers; moved on twins."""
        generator = torch.Generator().manual_seed(seed)
        value = torch.randn(shape, generator=generator, dtype=torch.float32).to(self.dtype)
        if self.nudge is not None:
            value = move_one_ulp(value, torch.Generator().manual_seed(seed * 31 + self.nudge))
        return value.to(self.device)

    def given(self, observations: Any, seed: int) -> Any:
        """A copy of drawn observations as this side is given them: floats in the dtype under test, moved on twins.

        ``observations`` is a tensor, or a TensorDict of them.
        """
        copied = observations.clone().to(self.device)
        return (
            copied.apply(lambda leaf: self._floating(leaf, seed))
            if isinstance(copied, TensorDict)
            else (self._floating(copied, seed))
        )

    def _floating(self, value: Tensor, seed: int) -> Tensor:
        if not value.is_floating_point():
            return value
        value = value.to(self.dtype)
        if self.nudge is None:
            return value
        return move_one_ulp(value, torch.Generator().manual_seed(seed * 31 + self.nudge))

    original: Original | None = None  # set on those that are kept: they do not change, so copying can be prepared

    def keep(self) -> None:
        """Promise that this subject does not change from now on, so that copies come cheap."""
        self.original = Original(self.policy)

    def copy(self) -> Subject:
        """An independent copy, state included."""
        policy = (self.original or Original(self.policy)).copy()
        if self.evaluating:
            policy.eval()
        return dataclasses.replace(self, policy=policy, original=None)

    def twin(self, number: int) -> Subject:
        """A copy with every weight and float input moved by one ulp, up or down at random, differently per number."""
        moved = dataclasses.replace(self.copy(), nudge=number)
        generator = torch.Generator().manual_seed(7919 * (number + 1))
        with torch.no_grad():
            for parameter in moved.policy.parameters():
                parameter.copy_(move_one_ulp(parameter, generator))
        return moved


@dataclass
class Sides:
    """Both sides of one build, with the map between them."""

    reference: Subject
    candidate: Subject
    parameters: ParameterMap

    def evaluating(self) -> Sides:
        """The same, in eval mode wherever they are copied."""
        mine, theirs = (dataclasses.replace(side, evaluating=True) for side in (self.reference, self.candidate))
        return Sides(mine, theirs, self.parameters)

    def copy(self) -> Sides:
        """Independent copies of both subjects."""
        return Sides(self.reference.copy(), self.candidate.copy(), self.parameters)

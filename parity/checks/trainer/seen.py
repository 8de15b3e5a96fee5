"""What was seen of a training: kept tensors of each call, for oracles to recompute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parity.compare.bounds import move_one_ulp

REWARDS = "rewards"
L2_INIT = "l2_init"
Values = dict[str, Tensor]


@dataclass
class Act:
    """One call of the policy in a rollout: where its state was kept, its state and the random state before."""

    env_id: int
    state: tuple[Tensor, Tensor] | None
    random: Tensor
    given: Values
    made: Values


@dataclass
class SeenMinibatch:
    """What was drawn, what the policy made of it, and what was differentiated. Norms are over all gradients."""

    indices: Tensor
    data: Values
    evaluated: Values
    losses: Values
    gradients: Values
    norms: Values


@dataclass
class SeenUpdate:
    """One rollout and what was learned from it."""

    calls: list[str] = field(default_factory=list)
    told: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # of a watcher's method: update and number
    acts: list[Act] = field(default_factory=list)
    taken: list[Tensor] = field(default_factory=list)
    steps: list[Values] = field(default_factory=list)  # what the environment answered, one per element of taken
    buffer: Values = field(default_factory=dict)
    generator: Tensor = field(default_factory=lambda: torch.empty(0))
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    probabilities: Tensor = field(default_factory=lambda: torch.empty(0))
    minibatches: list[SeenMinibatch] = field(default_factory=list)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def moved(self, number: int) -> SeenUpdate:
        """The same with everything in float64 moved by one ulp; rewards and flags, in float32, are exact."""
        generator = torch.Generator().manual_seed(number)

        def move(values: Values) -> Values:
            return {k: move_one_ulp(v, generator) if v.dtype == torch.float64 else v for k, v in values.items()}

        minibatches = [
            dataclasses.replace(each, data=move(each.data), evaluated=move(each.evaluated), norms=move(each.norms))
            for each in self.minibatches
        ]
        advantages = move({"advantages": self.advantages})["advantages"]
        return dataclasses.replace(self, buffer=move(self.buffer), advantages=advantages, minibatches=minibatches)

"""Changes that the faults of several pairs plant in a candidate's layers, sizes and initial weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.pytorch import pytorch_agent_mixin, stages
from parity.agents.pytorch.graph import Component
from parity.faults.plant import Patcher


def drop_activation(stage: str) -> Callable[[Any], None]:
    """A change of a built candidate: the stage at this path below the policy loses its activation."""

    def change(agent: Any) -> None:
        del agent.policy.get_submodule(stage)[1]

    return change


def become(module: str, kind: type[nn.Module]) -> Callable[[Any], None]:
    """A change of a built candidate: the module at this path below the policy becomes a ``kind``.

    ``kind`` is a subclass that computes something else from the same parameters.
    """

    def change(agent: Any) -> None:
        agent.policy.get_submodule(module).__class__ = kind

    return change


class NudgedLinear(nn.Linear):
    """A Linear that uses one weight a single float32 ulp larger than its parameter says."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in_features]`` -> ``[..., out_features]``."""
        return functional.linear(input, nudged(self.weight), self.bias)


def nudged(weight: Tensor) -> Tensor:
    """``weight`` with its first element moved up by one float32 ulp; gradients pass."""
    step = torch.zeros_like(weight)
    first = weight.detach()[0, 0].float()
    step[0, 0] = torch.nextafter(first, torch.tensor(float("inf"))) - first
    return weight + step


def with_sizes(patch: Patcher, component: str, **changed: Callable[[int], int]) -> None:
    """Build one component of the candidate in other sizes than the YAML's."""

    def make(read: Callable[..., dict[str, Component]]) -> Callable[..., dict[str, Component]]:
        def misread(*args: Any, **kwargs: Any) -> dict[str, Component]:
            parts = read(*args, **kwargs)
            sizes = dict(parts[component].sizes)
            sizes |= {key: change(sizes[key]) for key, change in changed.items()}
            return {**parts, component: dataclasses.replace(parts[component], sizes=sizes)}

        return misread

    patch.wrap(pytorch_agent_mixin, "read_graph", make)


def with_gain(patch: Patcher, gain: float, component: str | None = None) -> None:
    """Draw the Linear and Conv weights of one component, or of all, with another gain."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def draw(shape: torch.Size, **options: Any) -> Tensor:
            changed = {"gain": gain} if component in (None, options["component"]) else {}
            return original(shape, **{**options, **changed})

        return draw

    patch.wrap(stages, "draw_orthogonal", make)

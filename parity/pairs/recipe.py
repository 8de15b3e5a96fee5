"""Recipe and pair: what is built, by whom, and what links the two sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from parity.agents.interface import AgentConfig, EnvironmentDescription, SystemConfig
from parity.pairs.parameters import ParameterLink
from parity.pairs.training import Training


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a build: YAML, environment, seed, dtype and device."""

    config: AgentConfig
    environment: EnvironmentDescription
    system: SystemConfig = field(default_factory=SystemConfig)

    def with_system(self, **changes: Any) -> Recipe:
        """The same recipe with another seed, device or dtype."""
        return dataclasses.replace(self, system=dataclasses.replace(self.system, **changes))


Builder = Callable[[Recipe], nn.Module]
"""Builds one side, initialised to the recipe's environment, with fresh weights."""


@dataclass(frozen=True)
class ComponentLink:
    """One component on both sides, by module path below what the builders return.

    ``mask`` numbers the output that marks which slots of the others are real, where a component returns padded rows.
    """

    name: str
    reference: str
    candidate: str
    mask: int | None = None


class Recording(Protocol):
    """Observations recorded in a real environment."""

    @property
    def name(self) -> str:
        """Short and unique; drawn examples refer to it."""
        ...

    @property
    def environment(self) -> EnvironmentDescription:
        """Where it was recorded."""
        ...

    def segment(self, *, batch: int, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``env_obs [B, T, M, 3]``, ``dones [B, T]`` and ``truncateds [B, T]``."""
        ...


class Generator(Protocol):
    """Makes observations of any environment from a seed."""

    def __call__(self, environment: EnvironmentDescription, *, rows: int, seed: int, noise: bool = True) -> Tensor:
        """Return ``[rows, M, 3]`` uint8."""
        ...


@dataclass(frozen=True)
class Pair:
    """A reference and a candidate that claim to behave the same.

    Args:
        name: short and unique; appears in test ids and reports.
        recipe: the default build.
        reference, candidate: the two builders.
        components: probe points in the reference's execution order.
        generate: makes observations for any environment description.
        recordings: loads the recorded observations, called once.
        parameters: declared parameter links; None infers them.
        layers: reference parameter -> component, for each weight that clipping and l2-init act on.
        sizes: YAML values a check may vary: path of keys below ``components`` -> choices.
        capabilities: what the policy can do; a check whose needs are not among them is not applicable.
        training: the loop that trains its policies, for a pair with the capability ``training``.
        fault_hooks: set by planted faults only: called with (side, module) after each build.
        source: module or file that must be imported to have this pair; empty when an installed package offers it.
    """

    name: str
    recipe: Recipe
    reference: Builder
    candidate: Builder
    components: tuple[ComponentLink, ...]
    generate: Generator
    recordings: Callable[[], tuple[Recording, ...]] = tuple
    parameters: tuple[ParameterLink, ...] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[tuple[str, ...], tuple[Any, ...]] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    training: Training | None = None
    fault_hooks: tuple[Callable[[str, nn.Module], None], ...] = ()
    source: str = field(default="", compare=False)

    def paths(self, side: str) -> dict[str, str]:
        """Component name -> module path of one side."""
        return {link.name: getattr(link, side) for link in self.components}

    def home(self, parameter: str, side: str = "reference") -> str:
        """The innermost component that a parameter of one side belongs to, or its own name where it is in none."""
        paths = ((path, name) for name, path in self.paths(side).items() if parameter.startswith(f"{path}."))
        return max(paths, key=lambda entry: len(entry[0]), default=("", parameter))[1]

    @property
    def masks(self) -> dict[str, int]:
        """Component name -> its output that marks the real slots of the others, where it has one."""
        return {link.name: link.mask for link in self.components if link.mask is not None}


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float64`` -> ``"float64"``, as reports and options spell it."""
    return str(dtype).removeprefix("torch.")

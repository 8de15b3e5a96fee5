"""Builders that every shipped pair uses: the facade over either side, initialised to the recipe's environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn

from parity.agents.config import load_agent_config, load_environment
from parity.agents.metta_agent import MettaAgent
from parity.environments.recorded import load_recording
from parity.pairs.recipe import Builder, Recipe, Recording
from parity.resources import fixture

RECORDINGS = ("yard", "arena", "crowd")

#: What the shipped policies can do, all of it.
CAPABILITIES = frozenset({"action_embeddings", "clipping", "features", "keyed_init", "memory", "weight_metrics"})


def builder(agent_type: str | None) -> Builder:
    """The builder of one side: with ``agent_type`` that candidate, without it the component graph."""

    def build(recipe: Recipe) -> nn.Module:
        config = dataclasses.replace(recipe.config, agent_type=agent_type)
        agent = MettaAgent(recipe.environment, recipe.system, config)
        agent.initialize_to_environment(recipe.environment)
        return agent

    return build


def default_recipe(name: str) -> Recipe:
    """The YAML of a shipped agent in the default environment."""
    return Recipe(
        config=load_agent_config(fixture("agents", f"{name}.yaml")),
        environment=load_environment(fixture("environments", "default.yaml")),
    )


def recordings(*names: str) -> Callable[[], tuple[Recording, ...]]:
    """A loader of shipped recordings, which reads them when it is called."""
    return lambda: tuple(load_recording(fixture("observations", f"{name}.safetensors")) for name in names)

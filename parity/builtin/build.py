"""What every shipped pair is made of: builders over the facade, recipes, recordings, the core and the heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from parity.agents.config import load_agent_config, load_environment
from parity.agents.metta_agent import MettaAgent
from parity.builtin.training import GridTraining
from parity.environments.generated import generate_tokens
from parity.environments.recorded import load_recording
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import Builder, ComponentLink, Pair, Recipe, Recording
from parity.resources import fixture

RECORDINGS = ("yard", "arena", "crowd")

#: What the shipped policies can do, all of them.
CAPABILITIES = frozenset(
    {
        "action_table",
        "clipping",
        "compile",
        "component_graph",
        "configuration",
        "environments",
        "features",
        "fields",
        "gradients",
        "independent_rows",
        "initial_law",
        "keyed_init",
        "memory",
        "memory_slices",
        "optimizer",
        "resets",
        "save",
        "sequences",
        "throughput",
        "tokens",
        "training",
        "weight_metrics",
    }
)

#: Reference component -> attribute of the candidate, behind the encoder, in the order of execution.
CORE_AND_HEADS = {
    "_core_": "core",
    "critic_1": "critic_1",
    "_value_": "value_head",
    "actor_1": "actor_1",
    "_action_embeds_": "action_embeds",
    "_action_": "action_head",
}

_LSTM = tuple(f"{kind}_l{layer}" for layer in (0, 1) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

NONLINEARITY, RELU = "nonlinearity", "nn.ReLU"  # of a layer, and what it is where the YAML says nothing

#: What stands in for the YAML's sizes behind the encoder, to see that both sides read them: path below components.
SIZES = {
    ("_core_", "output_size"): 32,
    ("critic_1", "nn_params", "out_features"): 48,
    ("actor_1", "nn_params", "out_features"): 56,
    ("_action_embeds_", "nn_params", "embedding_dim"): 5,
    ("_action_embeds_", "nn_params", "num_embeddings"): 120,
}


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What one pair's encoder adds to the core and heads.

    Args:
        components: reference component -> attribute of the candidate, in the order of execution.
        masks: component -> its output that marks the real slots of the others.
        layers: the Linear and Conv components among them.
        parameters: links of all other parameters.
        weights: reference parameter -> component, for weights that clipping acts on besides those of ``layers``.
        sizes: path below ``components`` -> what stands in for the YAML's size.
        capabilities: how observations are encoded.
    """

    components: Mapping[str, str]
    masks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    layers: tuple[str, ...] = ()
    parameters: tuple[ParameterLink, ...] = ()
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sizes: Mapping[tuple[str, ...], Any] = dataclasses.field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()


def metta_pair(name: str, encoder: Encoder, *, agent: Path | None = None, environment: Path | None = None) -> Pair:
    """The pair of a component graph and the agent with this ``agent_type``, with the shipped recordings.

    Args:
        name: the ``agent_type``, which names the pair too.
        encoder: what stands before the core and the heads, which are those of every shipped agent.
        agent: the agent's YAML; left out, that of the shipped agent of this name.
        environment: the environment's YAML; left out, the default environment.
    """
    recipe = default_recipe(name, agent=agent, environment=environment)
    components = {**encoder.components, **CORE_AND_HEADS}
    layers = (*encoder.layers, "critic_1", "_value_", "actor_1")
    return Pair(
        name=name,
        recipe=recipe,
        reference=builder(None),
        candidate=builder(name),
        components=tuple(
            ComponentLink(
                component, f"policy.components.{component}", f"policy.{attribute}", encoder.masks.get(component)
            )
            for component, attribute in components.items()
        ),
        generate=generate_tokens,
        recordings=recordings(*RECORDINGS),
        parameters=(
            *encoder.parameters,
            *(
                ParameterLink(f"policy.components.{layer}.net.{role}", f"policy.{components[layer]}.0.{role}")
                for layer in layers
                for role in ("weight", "bias")
            ),
            *(ParameterLink(f"policy.components._core_.net.{role}", f"policy.core.lstm.{role}") for role in _LSTM),
            ParameterLink("policy.components._action_embeds_.net.weight", "policy.action_embeds.weight"),
            ParameterLink("policy.components._action_.W", "policy.action_head.W"),
            ParameterLink("policy.components._action_.bias", "policy.action_head.bias"),
        ),
        layers={**encoder.weights, **{f"policy.components.{layer}.net.weight": layer for layer in layers}},
        sizes={path: (_at(recipe, path), other) for path, other in {**encoder.sizes, **SIZES}.items()},
        capabilities=CAPABILITIES | encoder.capabilities,
        training=GridTraining(),
    )


def _at(recipe: Recipe, path: tuple[str, ...]) -> Any:
    value: Any = recipe.config.components
    for key in path:
        value = value.get(key, RELU) if key == NONLINEARITY else value[key]
    return value


def builder(agent_type: str | None) -> Builder:
    """The builder of one side: with ``agent_type`` that candidate, without it the component graph."""

    def build(recipe: Recipe) -> nn.Module:
        config = dataclasses.replace(recipe.config, agent_type=agent_type)
        agent = MettaAgent(recipe.environment, recipe.system, config)
        agent.initialize_to_environment(recipe.environment)
        return agent

    return build


def default_recipe(name: str, *, agent: Path | None = None, environment: Path | None = None) -> Recipe:
    """The YAML of a shipped agent in the default environment, or another one in another."""
    return Recipe(
        config=load_agent_config(agent or fixture("agents", f"{name}.yaml")),
        environment=load_environment(environment or fixture("environments", "default.yaml")),
    )


def recordings(*names: str) -> Callable[[], tuple[Recording, ...]]:
    """A loader of shipped recordings, which reads them when it is called."""
    return lambda: tuple(load_recording(fixture("observations", f"{name}.safetensors")) for name in names)

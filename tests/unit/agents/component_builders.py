"""What the tests of the reference build from: the shipped YAMLs, a small graph, random tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.agents.component import ComponentPolicy
from parity.agents.component.base import BuildContext, Component
from parity.agents.component.registry import KINDS
from parity.agents.component.settings import read_settings
from parity.agents.config import load_agent_config, load_environment
from parity.agents.interface import EnvironmentDescription, Feature

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
FAST = load_agent_config(FIXTURES / "agents" / "fast.yaml")
DEFAULT = load_environment(FIXTURES / "environments" / "default.yaml")

SMALL = EnvironmentDescription(
    obs_width=4,
    obs_height=3,
    num_tokens=6,
    action_names=("noop", "move", "use"),
    max_action_args=(0, 3, 1),
    features={"a": Feature(0, 2.0), "b": Feature(1), "c": Feature(4, 10.0)},
)

_SMALL_COMPONENTS: dict[str, dict[str, Any]] = {
    "_obs_": {"_target_": "ObsTokenToBoxShaper", "sources": None},
    "norm": {"_target_": "ObservationNormalizer", "sources": [{"name": "_obs_"}]},
    "conv": {
        "_target_": "Conv2d",
        "sources": [{"name": "norm"}],
        "nn_params": {"out_channels": 3, "kernel_size": 2, "stride": 1},
    },
    "flat": {"_target_": "Flatten", "sources": [{"name": "conv"}]},
    "_core_": {"_target_": "LSTM", "sources": [{"name": "flat"}], "output_size": 5, "nn_params": {"num_layers": 2}},
    "critic": {
        "_target_": "Linear",
        "sources": [{"name": "_core_"}],
        "nn_params": {"out_features": 7},
        "nonlinearity": "nn.Tanh",
        "analyze_weights": True,
    },
    "_value_": {
        "_target_": "Linear",
        "sources": [{"name": "critic"}],
        "nn_params": {"out_features": 1},
        "nonlinearity": None,
    },
    "_action_embeds_": {
        "_target_": "ActionEmbedding",
        "sources": None,
        "nn_params": {"num_embeddings": 12, "embedding_dim": 4},
    },
    "_action_": {"_target_": "MettaActorSingleHead", "sources": [{"name": "_core_"}, {"name": "_action_embeds_"}]},
}


def small_components() -> dict[str, dict[str, Any]]:
    """Return a fresh copy of a small graph, to be changed at will."""
    return copy.deepcopy(_SMALL_COMPONENTS)


def small_policy(**keywords: Any) -> ComponentPolicy:
    """Return an initialised float64 policy of the small graph, with weights large enough for outputs to vary."""
    policy = ComponentPolicy(SMALL, **{"components": small_components(), "dtype": torch.float64, **keywords})
    policy.initialize_to_environment(SMALL)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.7)
    return policy


def component(
    kind: str, inputs: list[tuple[int, ...]], seed: int = 3, environment: EnvironmentDescription = SMALL, **raw: Any
) -> Component:
    """Return one component named ``unit`` of a kind, built for sources of the given shapes."""
    cls = KINDS[kind]
    raw.setdefault("sources", [{"name": f"source{i}"} for i in range(len(inputs))])
    settings = read_settings(
        "unit", raw, "test.yaml", options=cls.option_keys, nn_params=cls.nn_param_keys, source_options=cls.source_keys
    )
    return cls(settings, tuple(inputs), BuildContext(environment, seed))


def tokens(*batch: int, environment: EnvironmentDescription = SMALL, seed: int = 0) -> Tensor:
    """Return random observations ``[*batch, M, 3]``, every token inside the box, about a third padding."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, environment.num_tokens)

    def draw(high: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    byte = draw(environment.obs_width) * 16 + draw(environment.obs_height)
    byte = torch.where(draw(3) == 0, 255, byte)
    ids = torch.tensor(sorted(feature.id for feature in environment.features.values()))
    return torch.stack([byte, ids[draw(len(ids))], draw(256)], dim=-1).to(torch.uint8)


def observation(*batch: int, seed: int = 0, **entries: Tensor) -> TensorDict:
    """Return a TensorDict of random observations of the small environment and further entries."""
    return TensorDict({"env_obs": tokens(*batch, seed=seed), **entries}, batch_size=list(batch))

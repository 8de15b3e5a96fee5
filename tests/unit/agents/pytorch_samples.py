"""Small environments, configs and batches for the PyTorch agents' unit tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.agents.config import load_agent_config, load_environment
from parity.agents.interface import EnvironmentDescription, Feature
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.graph import Component

FIXTURES = Path(__file__).parents[3] / "fixtures"
FAST_YAML = FIXTURES / "agents" / "fast.yaml"

SMALL_SIZES = {
    "cnn1": {"out_channels": 4, "kernel_size": 3, "stride": 2},
    "cnn2": {"out_channels": 5, "kernel_size": 2, "stride": 1},
    "fc1": {"out_features": 6},
    "encoded_obs": {"out_features": 7},
    "_core_": {"num_layers": 2, "hidden_size": 8},
    "critic_1": {"out_features": 9},
    "actor_1": {"out_features": 10},
    "_action_embeds_": {"num_embeddings": 12, "embedding_dim": 3},
}


def component(name: str = "layer", **settings: Any) -> Component:
    sizes = settings.pop("sizes", {})
    return Component(name=name, kind="Linear", where=f"a.yaml: component {name!r}", sizes=sizes, **settings)


def small_environment(**changes: Any) -> EnvironmentDescription:
    settings: dict[str, Any] = {
        "obs_width": 7,
        "obs_height": 6,
        "num_tokens": 5,
        "action_names": ("attack", "move", "noop"),
        "max_action_args": (2, 0, 1),
        "features": {"type": Feature(0, 2.0), "hp": Feature(3, 30.0)},
    }
    return EnvironmentDescription(**{**settings, **changes})


def fast_components() -> dict[str, Any]:
    """The components of ``fast.yaml``, free to be changed."""
    return copy.deepcopy(dict(load_agent_config(FAST_YAML).components))


def small_components(**changes: dict[str, Any]) -> dict[str, Any]:
    components = fast_components()
    for name, sizes in SMALL_SIZES.items():
        components[name]["nn_params"] = dict(sizes)
    del components["_core_"]["output_size"]
    for name, settings in changes.items():
        components[name].update(settings)
    return components


def small_fast(environment: EnvironmentDescription | None = None, **kwargs: Any) -> Fast:
    """A small, initialised policy whose LSTM has stress weights, so that its state shows in the outputs."""
    environment = environment or small_environment()
    policy = Fast(environment, **{"components": small_components(), "dtype": torch.float64, **kwargs})
    policy.initialize_to_environment(environment)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in policy.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.6 * drawn)
    return policy


def default_fast(**kwargs: Any) -> Fast:
    environment = load_environment(FIXTURES / "environments" / "default.yaml")
    policy = Fast(environment, **{"components": fast_components(), **kwargs})
    policy.initialize_to_environment(environment)
    return policy


def draw_tokens(*lead: int, environment: EnvironmentDescription | None = None, seed: int = 0) -> Tensor:
    """Legal tokens ``[*lead, M, 3]``, about a third of them padding."""
    environment = environment or small_environment()
    generator = torch.Generator().manual_seed(seed)
    shape = (*lead, environment.num_tokens)

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    ids = torch.tensor([feature.id for feature in environment.features.values()])
    place = draw(0, environment.obs_width) * 16 + draw(0, environment.obs_height)
    place = torch.where(draw(0, 3) == 0, 0xFF, place)
    return torch.stack([place, ids[draw(0, len(ids))], draw(0, 256)], dim=-1).to(torch.uint8)


def batch_of(*lead: int, seed: int = 0, **entries: Tensor) -> TensorDict:
    return TensorDict({"env_obs": draw_tokens(*lead, seed=seed), **entries}, batch_size=list(lead))  # type: ignore[arg-type]

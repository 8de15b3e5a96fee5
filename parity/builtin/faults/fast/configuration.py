"""Faults of construction: keys that never arrive, sizes that are not read, seeds that are not used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription, Feature
from parity.agents.metta_agent import MettaAgent
from parity.agents.pytorch import box_trunk, stages
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.stages import Stage
from parity.builtin.faults.changes import with_sizes
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

SEEDS_OF_OTHERS = "other projects' trackers: seeds silently constant"
SIZES_UPSTREAM = "upstream history: sizes written into the agent"

_caught_at_once = partial(CATALOGUE.fault, check="construction", phase="build")


def _without(patcher: Patcher, key: str) -> None:
    """Build the candidate without one of its keyword arguments, so that its default stands."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def drop(self: Fast, env: EnvironmentDescription, **kwargs: Any) -> None:
            build(self, env, **{name: value for name, value in kwargs.items() if name != key})

        return drop

    patcher.wrap(Fast, "__init__", make)


def _in_environment(patcher: Patcher, **fixed: Any) -> None:
    """Build the candidate's layers as if the environment had the given properties."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def pretend(self: Fast, env: EnvironmentDescription, **kwargs: Any) -> None:
            build(self, dataclasses.replace(env, **fixed), **kwargs)

        return pretend

    patcher.wrap(Fast, "__init__", make)


def _features(count: int) -> dict[str, Feature]:
    return {f"feature_{number}": Feature(number) for number in range(count)}


# Keys


@_caught_at_once(origin="seed document: config not passed", component="clip_range")
def clip_range_not_passed(patcher: Patcher) -> None:
    """The agent never hears of clip_range, which stays 0."""
    _without(patcher, "clip_range")


@_caught_at_once(origin="seed document: analyze_weights_interval dropped", component="analyze_weights_interval")
def analyze_weights_interval_dropped(patcher: Patcher) -> None:
    """The interval of weight analysis keeps its default."""
    _without(patcher, "analyze_weights_interval")


@_caught_at_once(origin="seed document: config not passed", component="l2_init_weight_update_interval")
def l2_init_weight_update_interval_dropped(patcher: Patcher) -> None:
    """The interval of l2-init re-basing keeps its default."""
    _without(patcher, "l2_init_weight_update_interval")


@_caught_at_once(origin="seed document: extra keys dropped", component="extra_config")
def extra_keys_dropped(patcher: Patcher) -> None:
    """Top-level keys that the agent does not know are lost."""
    _without(patcher, "extra_config")


@_caught_at_once(origin="seed document: config not passed", component="observations")
def observations_dropped(patcher: Patcher) -> None:
    """The YAML's observations mapping is lost."""
    _without(patcher, "observations")


@_caught_at_once(origin="seed document: device not passed", component="dtype")
def dtype_not_passed(patcher: Patcher) -> None:
    """The agent stays in float32 whatever it is asked for."""
    _without(patcher, "dtype")


# Sizes


@_caught_at_once(origin=SIZES_UPSTREAM, component="fc1")
def fc1_width_hard_coded(patcher: Patcher) -> None:
    """fc1 has 128 outputs whatever out_features says."""
    with_sizes(patcher, "fc1", out_features=lambda _: 128)


@_caught_at_once(origin=SIZES_UPSTREAM, component="_action_embeds_")
def embedding_rows_hard_coded(patcher: Patcher) -> None:
    """The embedding table has 100 rows whatever num_embeddings says."""
    with_sizes(patcher, "_action_embeds_", num_embeddings=lambda _: 100)


@_caught_at_once(origin="upstream history: one fewer LSTM layer", component="_core_")
def one_lstm_layer_fewer(patcher: Patcher) -> None:
    """The LSTM has one layer less than num_layers."""
    with_sizes(patcher, "_core_", num_layers=lambda layers: layers - 1)


@_caught_at_once(origin="upstream history: hard-coded 11x11", component="recipe")
def box_of_11_by_11_hard_coded(patcher: Patcher) -> None:
    """Layers are sized for 11 x 11 cells, which only the default environment has."""
    _in_environment(patcher, obs_width=11, obs_height=11)


@_caught_at_once(origin="upstream history: hard-coded 22 features", component="cnn1")
def features_22_hard_coded(patcher: Patcher) -> None:
    """The first convolution takes 22 layers."""
    _in_environment(patcher, features=_features(22))


@_caught_at_once(origin="upstream history: hard-coded number of features", component="cnn1")
def features_25_hard_coded(patcher: Patcher) -> None:
    """The first convolution takes 25 layers, which the default environment happens to have."""
    _in_environment(patcher, features=_features(25))


# Parameters


@_caught_at_once(origin="other projects' trackers: one parameter frozen", component="critic_1")
def critic_frozen(patcher: Patcher) -> None:
    """The critic's first weight takes no gradient."""

    def freeze(agent: MettaAgent) -> None:
        agent.policy.get_parameter("critic_1.0.weight").requires_grad_(False)

    patcher.built("candidate", freeze)


@_caught_at_once(origin="other projects' trackers: weights tied by aliasing", component="_core_")
def lstm_biases_tied(patcher: Patcher) -> None:
    """The LSTM's two biases of a layer are one parameter."""

    def tie(agent: MettaAgent) -> None:
        lstm = agent.policy.get_submodule("core.lstm")
        lstm.bias_hh_l0 = lstm.bias_ih_l0

    patcher.built("candidate", tie)


@_caught_at_once(origin="other projects' trackers: weights tied by aliasing", component="tied parameters")
def lstm_layers_share_storage(patcher: Patcher) -> None:
    """The recurrent weights of both LSTM layers are two parameters over one storage."""

    def tie(agent: MettaAgent) -> None:
        lstm = agent.policy.get_submodule("core.lstm")
        lstm.get_parameter("weight_hh_l1").data = lstm.get_parameter("weight_hh_l0").data

    patcher.built("candidate", tie)


# Random numbers


@_caught_at_once(origin=SEEDS_OF_OTHERS, component="global random state")
def building_draws_from_the_global_generator(patcher: Patcher) -> None:
    """Linear layers run torch's own initialisation before theirs, which moves the global generator."""

    def linear_stage(settings: Component, in_features: int, *, seed: int, dtype: torch.dtype) -> Stage:
        return Stage(nn.Linear(in_features, settings.sizes["out_features"], dtype=dtype), settings, seed=seed)

    patcher.attribute(box_trunk, "linear_stage", linear_stage)


@_caught_at_once(origin=SEEDS_OF_OTHERS, component="global random state")
def initialised_from_the_global_generator(patcher: Patcher) -> None:
    """Weights are drawn from the global generator, without the seed."""

    def draw_orthogonal(shape: torch.Size, *, gain: float, seed: int, component: str, role: str) -> Tensor:
        return nn.init.orthogonal_(torch.empty(shape, dtype=torch.float32), gain=gain)

    patcher.attribute(stages, "draw_orthogonal", draw_orthogonal)


@CATALOGUE.fault(origin=SEEDS_OF_OTHERS, check="initialization", component="seed", phase="build")
def seed_ignored(patcher: Patcher) -> None:
    """The agent always uses seed 0."""
    _without(patcher, "seed")


@CATALOGUE.fault(origin=SEEDS_OF_OTHERS, check="initialization", component="cnn1", phase="build")
def seed_without_component(patcher: Patcher) -> None:
    """Every layer starts its own stream from the bare seed, so layers of one shape start equal."""

    def draw_orthogonal(shape: torch.Size, *, gain: float, seed: int, component: str, role: str) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return nn.init.orthogonal_(torch.empty(shape, dtype=torch.float32), gain=gain, generator=generator)

    patcher.attribute(stages, "draw_orthogonal", draw_orthogonal)


@CATALOGUE.fault(
    origin="seed document: mixin placed after the base class",
    check="clipping",
    component="l2_init_loss",
    phase="forward",
)
def wrapper_before_the_mixin(patcher: Patcher) -> None:
    """The wrapper's own l2_init_loss, a constant 0, comes before the mixin's in the method resolution order."""

    def l2_init_loss(self: Fast) -> Tensor:
        return torch.zeros((), dtype=self.dtype, device=self.device)

    patcher.attribute(Fast, "l2_init_loss", l2_init_loss)

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_samples import fast_components, small_environment

from parity.agents.errors import ConfigError
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin

ENVIRONMENT = small_environment(obs_width=11, obs_height=11)


def build(components: Any, **kwargs: Any) -> Fast:
    return Fast(ENVIRONMENT, components=components, source="dir/a.yaml", **kwargs)


def change(name: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda components: components[name].update(settings)


REFUSALS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c.pop("fc1"), r"component 'fc1' is missing; agent_type 'fast' needs '_obs_', "),
    (lambda c: c.update(fc2={}), r"component 'fc2' does not belong to agent_type 'fast' \(nearest: 'fc1'\)"),
    (change("fc1", _target_="Conv2d"), r"component 'fc1': _target_ is 'Conv2d'; write 'Linear'"),
    (change("fc1", _target_="torch.nn.Linear"), r"component 'fc1': _target_ is 'torch\.nn\.Linear'"),
    (change("fc1", _target_=None), r"component 'fc1': _target_ is None"),
    (change("fc1", sources=[{"name": "cnn2"}]), r"sources are \['cnn2'\]; this agent reads \['obs_flattener'\]"),
    (change("fc1", sources=None), r"sources are \[\]; this agent reads \['obs_flattener'\]"),
    (change("_obs_", sources=[{"name": "fc1"}]), r"sources are \['fc1'\]; this agent reads \[\] there"),
    (change("fc1", sources="cnn2"), r"sources is 'cnn2'; give null or a list"),
    (change("fc1", sources=[{"name": "a", "slice": 1}]), r"sources holds .*'slice'.* and nothing else"),
    (
        change("_action_", sources=[{"name": "_action_embeds_"}, {"name": "actor_1"}]),
        r"\['actor_1', '_action_embeds_'\]",
    ),
    (change("fc1", cip_scale=1), r"component 'fc1': unknown key 'cip_scale' \(nearest: 'clip_scale'\)"),
    (change("_obs_", clip_scale=1), r"component '_obs_': unknown key 'clip_scale'"),
    (change("fc1", nn_params=[128]), r"nn_params is \[128\]; give a mapping"),
    (change("fc1", nn_params={}), r"nn_params\.out_features is missing; give a whole"),
    (
        change("fc1", nn_params={"out_features": 8, "bia": 1}),
        r"unknown key 'bia' in nn_params \(nearest: 'out_features'\)",
    ),
    (change("_obs_", nn_params={"a": 1}), r"unknown key 'a' in nn_params; this kind takes none"),
    (
        change("cnn1", nn_params={"out_channels": 4, "kernel_size": 2.0}),
        r"nn_params\.kernel_size is 2\.0; give a whole",
    ),
    (change("cnn1", nn_params={"out_channels": True, "kernel_size": 2}), r"nn_params\.out_channels is True"),
    (change("cnn1", nn_params={"out_channels": 4, "kernel_size": 2, "stride": 0}), r"nn_params\.stride is 0"),
    (change("cnn2", nn_params={"out_channels": 4, "kernel_size": 4}), r"kernel_size is 4 but the input is 3 x 3"),
    (change("_core_", output_size=None), r"neither output_size nor nn_params\.hidden_size"),
    (change("_core_", output_size="128"), r"output_size is '128'"),
    (change("_core_", nn_params={"hidden_size": 7}), r"output_size is 128 but nn_params\.hidden_size is 7"),
    (change("_core_", nn_params={"hidden_size": None}), r"nn_params\.hidden_size is None"),
    (change("fc1", nonlinearity="nn.GELU"), r"nonlinearity is 'nn\.GELU'; give nn\.ReLU, nn\.Tanh or null"),
    (change("fc1", clip_scale=-1), r"clip_scale is -1; give a finite number >= 0"),
    (change("fc1", l2_init_scale="1"), r"l2_init_scale is '1'"),
    (change("fc1", analyze_weights="yes"), r"analyze_weights is 'yes'; give true or false"),
    (change("_value_", nn_params={"out_features": 2}), r"component '_value_': nn_params\.out_features is 2; give 1"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSALS, ids=[message[:40] for _, message in REFUSALS])
def test_foreign_graphs_are_refused_by_file_component_and_key(edit: Callable[..., Any], message: str) -> None:
    components = fast_components()
    edit(components)
    with pytest.raises(ConfigError, match=rf"^dir/a\.yaml: .*{message}"):
        build(components)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"clip_rang": 1}, r"unknown key 'clip_rang' \(nearest: 'clip_range'\)"),
        ({"policy": None}, "unknown key 'policy'"),
        ({"clip_range": -1}, "clip_range is -1; give a finite number >= 0"),
        ({"clip_range": float("inf")}, "clip_range is inf"),
        ({"clip_range": "1"}, "clip_range is '1'"),
        ({"analyze_weights_interval": 1.5}, "analyze_weights_interval is 1.5; give a whole number"),
        ({"l2_init_weight_update_interval": -1}, "l2_init_weight_update_interval is -1"),
        ({"dtype": torch.int64}, "dtype is torch.int64; give a floating"),
        ({"dtype": "float32"}, "dtype is 'float32'"),
        ({"device": "tpu9"}, "device is 'tpu9'"),
    ],
)
def test_wrong_arguments_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^dir/a\.yaml: {message}"):
        build(fast_components(), **kwargs)


def test_components_are_required() -> None:
    with pytest.raises(ConfigError, match=r"^agent config: components is None; give the YAML's mapping"):
        Fast(ENVIRONMENT)


def test_upstream_spellings_and_annotations_are_accepted() -> None:
    components = fast_components()
    for settings in components.values():
        settings["_target_"] = f"metta.agent.lib.some_module.{settings['_target_']}"
        settings.update(effective_rank=True, mlp_out_hidden_dim=3, atr_embed_dim=4)
    components["fc1"].update(output_size=99)
    assert build(components).fc1.weight.shape == (128, 64)


def test_sizes_and_options_are_those_of_the_file() -> None:
    components = fast_components()
    components["cnn1"]["nn_params"] = {"out_channels": 6, "kernel_size": 4}
    components["cnn2"]["nn_params"] = {"out_channels": 7, "kernel_size": 3, "stride": 2}
    components["_core_"] = {**components["_core_"], "nn_params": {"hidden_size": 20}}
    del components["_core_"]["output_size"]
    components["fc1"]["nonlinearity"] = None
    components["encoded_obs"]["nonlinearity"] = "nn.Tanh"
    policy = build(components)
    assert policy.cnn1.weight.shape == (6, 4, 4, 4) and policy.cnn2.weight.shape == (7, 6, 3, 3)
    assert policy.fc1.weight.shape == (128, 7 * 3 * 3)  # 11 -> 8 -> 3 cells a side
    assert len(policy.fc1) == 1 and isinstance(policy.encoded_obs[1], torch.nn.Tanh)
    assert policy.core.lstm.num_layers == 1 and policy.hidden_size == 20


def test_configuration_reaches_the_policy() -> None:
    policy = build(
        fast_components(), clip_range=2, analyze_weights_interval=7, l2_init_weight_update_interval=5,
        extra_config={"x": 1}, observations={"obs_key": "grid_obs"}, seed=4, dtype=torch.float64, device="cpu",
    )  # fmt: skip
    assert (policy.clip_range, policy.analyze_weights_interval, policy.l2_init_weight_update_interval) == (2.0, 7, 5)
    assert (policy.extra_config, policy.observations) == ({"x": 1}, {"obs_key": "grid_obs"})
    assert (policy.seed, policy.dtype, policy.device) == (4, torch.float64, torch.device("cpu"))


def test_the_mixin_behind_the_wrapper_is_not_a_policy() -> None:
    backwards: type = types.new_class("Backwards", (LSTMWrapper, PyTorchAgentMixin))
    with pytest.raises(TypeError, match="abstract"):
        backwards(None, 1, seed=0, dtype=torch.float32)


def test_what_is_left_out_has_the_defaults_that_every_candidate_shares():
    policy = build(fast_components())
    assert (policy.clip_range, policy.analyze_weights_interval, policy.l2_init_weight_update_interval) == (0.0, 300, 0)

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_samples import FIXTURES, draw_tokens, small_environment
from tensordict import TensorDict

from parity.agents.config import load_agent_config, load_environment
from parity.agents.errors import ConfigError
from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.example import CenterCell, Example, Merge

YAML = FIXTURES / "agents" / "example.yaml"
DEFAULT = load_environment(FIXTURES / "environments" / "default.yaml")
SIZES = {
    "cnn1": {"out_channels": 4, "kernel_size": 3, "stride": 2},
    "cnn2": {"out_channels": 5, "kernel_size": 2, "stride": 1},
    "fc1": {"out_features": 6},
    "center_fc": {"out_features": 3},
    "_core_": {"num_layers": 1, "hidden_size": 8},
    "critic_1": {"out_features": 9},
    "actor_1": {"out_features": 10},
}


def example_components(**sizes: dict[str, int]) -> dict[str, Any]:
    components: dict[str, Any] = copy.deepcopy(dict(load_agent_config(YAML).components))
    for name, params in sizes.items():
        components[name]["nn_params"] = dict(params)
        components[name].pop("output_size", None)
    return components


def small_example(environment: EnvironmentDescription | None = None, **kwargs: Any) -> Example:
    environment = environment or small_environment()
    policy = Example(environment, **{"components": example_components(**SIZES), "dtype": torch.float64, **kwargs})
    policy.initialize_to_environment(environment)
    return policy


def test_parameter_count() -> None:
    policy = Example(DEFAULT, components=example_components())
    assert sum(parameter.numel() for parameter in policy.parameters()) == 5_268_674


@pytest.mark.parametrize(("width", "height"), [(7, 6), (11, 11), (1, 1), (2, 5)])
def test_center_cell_is_the_middle_one(width: int, height: int) -> None:
    box = torch.randn(3, 4, width, height)
    assert torch.equal(CenterCell()(box), torch.stack([row[:, width // 2, height // 2] for row in box]))


def test_merge_puts_the_first_in_front() -> None:
    assert Merge()(torch.tensor([[1, 2]]), torch.tensor([[3]])).tolist() == [[1, 2, 3]]


def test_encoding_joins_surroundings_and_center() -> None:
    policy, tokens = small_example(), draw_tokens(4)
    tokens[:, 0] = torch.tensor([0x33, 3, 60])  # hp, normalised by 30, in the centre of 7 x 6
    encoded = policy.encode_observations(tokens)
    assert encoded.shape == (4, 6 + 3)
    box = policy.normalizer(policy.box(tokens))
    center = torch.stack([row[:, 3, 3] for row in box])
    assert bool((center[:, 3] >= 2).all())
    image = torch.relu(torch.conv2d(box, policy.cnn1.weight, None, 2))
    image = torch.relu(torch.conv2d(image, policy.cnn2.weight))  # biases start at 0
    expected = (torch.relu(image.flatten(1) @ policy.fc1.weight.T), torch.relu(center @ policy.center_fc.weight.T))
    torch.testing.assert_close(encoded, torch.cat(expected, dim=1), rtol=1e-12, atol=1e-12)


def test_every_parameter_gets_a_finite_gradient() -> None:
    policy = small_example()
    td = TensorDict({"env_obs": draw_tokens(2, 3)}, batch_size=[2, 3])
    out = policy(td, action=torch.zeros(2, 3, 2, dtype=torch.int64))
    (out["act_log_prob"].sum() + out["value"].sum() + out["entropy"].sum()).backward()
    for key, parameter in policy.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key


def test_seed_decides_the_bits_whatever_the_threads_and_dtype() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = small_example(seed=3, dtype=torch.float32).state_dict()
        torch.set_num_threads(2)
        before = torch.get_rng_state()
        two, wide = small_example(seed=3, dtype=torch.float32).state_dict(), small_example(seed=3).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)
    for key, value in one.items():
        assert torch.equal(value, two[key]) and torch.equal(value.double(), wide[key]), key


def test_layers_are_clipped_in_the_files_order() -> None:
    policy = small_example(clip_range=0.5)
    assert [stage.settings.name for stage in policy.stages()] == [
        "cnn1", "cnn2", "fc1", "center_fc", "critic_1", "_value_", "actor_1",
    ]  # fmt: skip
    bound = 0.5 * policy.center_fc.weight.abs().max()
    policy.clip_weights()
    assert policy.center_fc.weight.abs().max() == bound


def change(component: str, **settings: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda components: components[component].update(settings)


REFUSALS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (change("encoded_obs", sources=[{"name": "center_fc"}, {"name": "fc1"}]), r"'encoded_obs': sources are \['cent"),
    (change("encoded_obs", sources=[{"name": "fc1", "slice": [0, 2]}]), r"sources holds .*slice.*; give"),
    (change("encoded_obs", _target_="AddMergeLayer"), r"_target_ is 'AddMergeLayer'; write 'Concat'"),
    (change("encoded_obs", nonlinearity=None), r"component 'encoded_obs': unknown key 'nonlinearity'"),
    (change("center", nn_params={"a": 1}), r"component 'center': unknown key 'a' in nn_params; this kind takes none"),
    (lambda components: components.pop("center"), r"component 'center' is missing; agent_type 'example' needs"),
    (change("cnn1", nn_params={"out_channels": 4, "kernel_size": 12}), r"kernel_size is 12 but the input is 11 x 11"),
    (change("_value_", nn_params={"out_features": 2}), r"component '_value_': nn_params\.out_features is 2; give 1"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSALS, ids=[message[:40] for _, message in REFUSALS])
def test_foreign_graphs_are_refused(edit: Callable[..., Any], message: str) -> None:
    components = example_components(_core_={"hidden_size": 8})
    edit(components)
    with pytest.raises(ConfigError, match=rf"^dir/a\.yaml: .*{message}"):
        Example(DEFAULT, components=components, source="dir/a.yaml")


def test_upstream_names_are_accepted() -> None:
    components = example_components(**SIZES)
    components["encoded_obs"]["_target_"] = "metta.agent.lib.merge_layer.ConcatMergeLayer"
    assert small_example(components=components).encode_observations(draw_tokens(2)).shape == (2, 9)

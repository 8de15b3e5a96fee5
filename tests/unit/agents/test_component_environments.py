"""Action spaces and feature tables of the reference over changing environments."""

from __future__ import annotations

import pytest
import torch
from component_builders import DEFAULT, SMALL, observation, small_components, small_policy

from parity.agents.component import ComponentPolicy
from parity.agents.component.actions import ActionTable
from parity.agents.component.features import FeatureTable
from parity.agents.errors import ActionError, ConfigError
from parity.agents.interface import Feature

SPACES = [(0,), (3,), (0, 0, 0), (8, 0, 1, 3, 0, 0, 0), (2, 0, 5), (0, 7)]


def active_rows(policy: ComponentPolicy) -> list[int]:
    return policy.get_buffer("components._action_embeds_.active_rows").tolist()


def names(count: int) -> list[str]:
    return [f"act{i}" for i in range(count)]


@pytest.mark.parametrize("max_args", SPACES)
def test_conversion_is_a_bijection_over_every_legal_action(max_args: tuple[int, ...]) -> None:
    table = ActionTable(capacity=100)
    table.activate(names(len(max_args)), max_args)
    legal = torch.tensor([(kind, arg) for kind, most in enumerate(max_args) for arg in range(most + 1)])
    index = table.to_index(legal)
    assert index.tolist() == list(range(len(legal))) and index.dtype == torch.int64
    back = table.to_action(index)
    assert back.equal(legal.int()) and back.dtype == torch.int32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_conversion_keeps_any_leading_shape_and_takes_any_integer(dtype: torch.dtype) -> None:
    table = ActionTable(capacity=100)
    table.activate(names(2), (1, 2))
    action = torch.tensor([[[1, 2]], [[0, 1]]], dtype=torch.int64).to(dtype)
    assert table.to_index(action).tolist() == [[4], [1]]
    assert table.to_index(action[0, 0]).shape == ()
    assert table.to_action(torch.tensor([[[4]], [[1]]]).to(dtype)).tolist() == [[[[1, 2]]], [[[0, 1]]]]
    assert table.to_index(torch.empty(0, 3, 2, dtype=torch.int64)).shape == (0, 3)


@pytest.mark.parametrize("pair", [(3, 0), (-1, 0), (0, 1), (1, 4), (2, -1)])
def test_an_illegal_action_is_named(pair: tuple[int, int]) -> None:
    policy = small_policy()
    action = torch.tensor([[0, 0], list(pair)])
    with pytest.raises(ActionError, match=rf"\(type {pair[0]}, argument {pair[1]}\).*1 move 0\.\.3"):
        policy.convert_action_to_logit_index(action)


@pytest.mark.parametrize("index", [-1, 7])
def test_an_illegal_logit_index_is_named(index: int) -> None:
    with pytest.raises(ActionError, match=f"illegal logit index {index}; give 0 to 6"):
        small_policy().convert_logit_index_to_action(torch.tensor([0, index]))


def test_floats_wrong_shapes_and_missing_activation_are_refused() -> None:
    policy = small_policy()
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ActionError, match=f"dtype {dtype}"):
            policy.convert_action_to_logit_index(torch.zeros(2, dtype=dtype))
        with pytest.raises(ActionError, match=f"dtype {dtype}"):
            policy.convert_logit_index_to_action(torch.zeros(2, dtype=dtype))
    with pytest.raises(ActionError, match=r"shape \[4, 3\]"):
        policy.convert_action_to_logit_index(torch.zeros(4, 3, dtype=torch.int64))
    fresh = ComponentPolicy(SMALL, components=small_components())
    with pytest.raises(ActionError, match="no action space is active"):
        fresh.convert_action_to_logit_index(torch.zeros(2, dtype=torch.int64))


def test_full_names_keep_their_embedding_row_for_good() -> None:
    policy = small_policy()
    assert active_rows(policy) == [0, 1, 2, 3, 4, 5, 6]  # noop_0, move_0..3, use_0..1
    policy.activate_actions(["use", "jump", "move"], [2, 0, 1])
    assert active_rows(policy) == [5, 6, 7, 8, 1, 2]  # use_0..2, jump_0, move_0..1
    policy.initialize_to_environment(SMALL)
    assert active_rows(policy) == [0, 1, 2, 3, 4, 5, 6]


def test_more_names_than_rows_leaves_the_previous_activation_in_force() -> None:
    policy = small_policy()
    before = policy(observation(2), action=None)["full_log_probs"].shape
    with pytest.raises(ActionError, match=r"'many_5' would need row 12 of an embedding table with 12 rows \(7 held"):
        policy.activate_actions(["noop", "many"], [0, 8])
    policy.reset_memory()
    assert policy(observation(2))["full_log_probs"].shape == before
    policy.activate_actions(["noop", "other"], [0, 4])  # the failed names took no row
    assert active_rows(policy) == [0, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("space", "part"),
    [
        (([], []), "non-empty"),
        ((["a", "a"], [0, 0]), "without repetition"),
        ((["a"], [0, 1]), "1 action names but 2"),
        ((["a"], [-1]), "'a' is -1"),
        ((["a"], [1.5]), "'a' is 1.5"),
    ],
)
def test_malformed_action_spaces_are_refused(space: tuple[list[str], list[int]], part: str) -> None:
    with pytest.raises(ActionError, match=part):
        small_policy().activate_actions(*space)


def features(**ids: int) -> dict[str, Feature]:
    return {name: Feature(number, float(number + 1)) for name, number in ids.items()}


def test_the_first_activation_is_the_identity_and_stored() -> None:
    table = FeatureTable()
    assert table.activate(features(a=0, b=3), learn=True) == {0: 1.0, 3: 4.0}
    assert table.remap.tolist() == list(range(256)) and table.stored == {"a": 0, "b": 3}


@pytest.mark.parametrize("learn", [False, True])
def test_later_activations_remap_by_name(learn: bool) -> None:
    table = FeatureTable()
    table.activate(features(a=0, b=1, c=2), learn=learn)
    divisors = table.activate(features(b=0, a=1, new=2, other=9), learn=learn)
    expected = [255] * 256
    expected[0], expected[1] = 1, 0
    if learn:  # 2 is held by c, so new takes the lowest free id; 9 is free
        expected[2], expected[9] = 3, 9
    assert table.remap.tolist() == expected
    assert table.stored == {"a": 0, "b": 1, "c": 2, **({"new": 3, "other": 9} if learn else {})}
    assert divisors == {1: 1.0, 0: 2.0, **({3: 3.0, 9: 10.0} if learn else {})}


def test_a_restored_mapping_makes_the_next_activation_a_later_one() -> None:
    policy = ComponentPolicy(SMALL, components=small_components()).eval()
    policy.restore_original_feature_mapping({"a": 4, "b": 1})
    policy.initialize_to_environment(SMALL)
    assert policy.features.remap[[0, 1, 4]].tolist() == [4, 1, 255]
    assert policy.get_buffer("components.norm.normalization").tolist() == [1, 1, 1, 1, 2]
    mapping = policy.original_feature_mapping()
    mapping["a"] = 9
    assert policy.original_feature_mapping() == {"a": 4, "b": 1}
    policy.restore_original_feature_mapping({})
    policy.activate_observations(SMALL.features)
    assert policy.original_feature_mapping() == {"a": 0, "b": 1, "c": 4}


def test_bad_feature_tables_and_mappings_are_refused() -> None:
    table = FeatureTable()
    for bad, part in (
        ({}, "empty"),
        ({"a": Feature(255)}, "'a' has id 255"),
        ({"a": Feature(1), "b": Feature(1)}, "'a' and 'b' share id 1"),
        ({"a": Feature(0, 0.0)}, r"'a' has normalization 0\.0"),
    ):
        with pytest.raises(ConfigError, match=part):
            table.activate(bad, learn=True)
    with pytest.raises(ConfigError, match="'a' has id -1"):
        table.restore({"a": -1})
    table.restore({f"f{i}": i for i in range(255)})
    with pytest.raises(ConfigError, match="'new' cannot be learned"):
        table.activate(features(new=0), learn=True)
    assert len(table.stored) == 255


def test_permuted_ids_give_the_same_output_and_the_input_stays() -> None:
    policy = small_policy()
    td = observation(3, seed=4)
    expected = policy(td.clone())["full_log_probs"]
    policy.reset_memory()
    policy.activate_observations({"a": Feature(4, 2.0), "b": Feature(0), "c": Feature(1, 10.0)})
    swap = torch.arange(256, dtype=torch.uint8)
    swap[torch.tensor([0, 1, 4])] = torch.tensor([4, 0, 1], dtype=torch.uint8)
    obs = td["env_obs"].clone()
    obs[..., 1] = swap[obs[..., 1].long()]
    before = obs.clone()
    td["env_obs"] = obs
    assert policy(td)["full_log_probs"].equal(expected) and obs.equal(before)


def test_the_default_environment_has_19_logits() -> None:
    table = ActionTable(capacity=100)
    assert table.activate(DEFAULT.action_names, DEFAULT.max_action_args) == list(range(19))

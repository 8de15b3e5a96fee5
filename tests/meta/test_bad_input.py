"""Bad input, kind by kind: refused by both sides, by name, with the place and the remedy."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from parity.agents.config import agent_config, environment_description, load_agent_config, load_environment, read_yaml
from parity.agents.errors import ActionError, ConfigError, ObservationError
from parity.agents.interface import SystemConfig
from parity.agents.metta_agent import MettaAgent
from parity.resources import fixture

FAST = fixture("agents", "fast.yaml")
DEFAULT = fixture("environments", "default.yaml")
SIDES = pytest.mark.parametrize("agent_type", [None, "fast"], ids=["reference", "candidate"])


def content() -> dict[str, Any]:
    return copy.deepcopy(read_yaml(FAST))


def build(agent_type: str | None, changed: dict[str, Any] | None = None) -> MettaAgent:
    config = agent_config(changed or content(), source="mine.yaml")
    agent = MettaAgent(load_environment(DEFAULT), SystemConfig(), dataclasses.replace(config, agent_type=agent_type))
    agent.initialize_to_environment(load_environment(DEFAULT))
    return agent


def edit(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The YAML of fast with its components changed."""
    changed = content()
    change(changed["components"])
    return changed


def sources(name: str) -> list[dict[str, str]]:
    return [{"name": name}]


GRAPHS = {
    "unknown key inside a component": (
        lambda c: c["fc1"].update(nn_parms={}),
        ("mine.yaml", "fc1", "nn_parms", "nn_params"),
    ),
    "unknown key inside nn_params": (
        lambda c: c["fc1"]["nn_params"].update(out_feature=3),
        ("mine.yaml", "fc1", "out_feature"),
    ),
    "unknown target": (lambda c: c["fc1"].update(_target_="Linaer"), ("mine.yaml", "fc1", "Linaer", "Linear")),
    "non-integer conv size": (
        lambda c: c["cnn1"]["nn_params"].update(kernel_size=2.5),
        ("mine.yaml", "cnn1", "kernel_size", "2.5"),
    ),
    "kernel larger than its input": (
        lambda c: c["cnn1"]["nn_params"].update(kernel_size=12),
        ("mine.yaml", "cnn1", "12", "11"),
    ),
    "missing component": (lambda c: c.pop("_value_"), ("mine.yaml", "_value_")),
}


@SIDES
@pytest.mark.parametrize(("change", "words"), GRAPHS.values(), ids=GRAPHS)
def test_a_wrong_component_is_refused(agent_type, change, words):
    with pytest.raises(ConfigError) as error:
        build(agent_type, edit(change))
    assert all(word in str(error.value) for word in words), error.value


@SIDES
def test_a_source_that_does_not_exist_is_refused(agent_type):
    with pytest.raises(ConfigError) as error:
        build(agent_type, edit(lambda c: c["_core_"].update(sources=sources("encoded_obz"))))
    assert all(word in str(error.value) for word in ("mine.yaml", "_core_", "encoded_obz", "encoded_obs")), error.value


def test_cyclic_sources_are_refused_with_the_cycle():
    with pytest.raises(ConfigError) as error:
        build(None, edit(lambda c: c["fc1"].update(sources=sources("encoded_obs"))))
    assert all(word in str(error.value) for word in ("mine.yaml", "fc1", "encoded_obs")), error.value


@SIDES
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "ten"])
def test_a_normalisation_that_cannot_divide_is_refused(agent_type, value):
    wrong = read_yaml(DEFAULT)
    wrong["features"]["hp"]["normalization"] = value
    with pytest.raises(ConfigError) as error:
        environment_description(wrong, source="env.yaml")
    assert all(word in str(error.value) for word in ("env.yaml", "hp", "normalization")), error.value


def test_a_component_given_twice_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "twice.yaml"
    path.write_text(FAST.read_text() + "  fc1:\n    _target_: Linear\n")
    with pytest.raises(ConfigError, match=r"twice.yaml, line \d+: duplicate key 'fc1'; rename or remove"):
        load_agent_config(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("components: [unclosed", "not valid YAML"),
        ("just words", "holds str, not a mapping"),
        ("", "holds NoneType, not a mapping"),
        ("components: {fc1: 3}", "component 'fc1' is 3"),
        ("clip_range: 0", "'components' is None"),
        ("components: {a: {}}\nclip_range: often", "clip_range is 'often'"),
        ("components: {a: {}}\nclip_range: -1", "clip_range is -1"),
        ("a: !!python/object/apply:os.system [echo]", "not valid YAML"),
    ],
)
def test_a_yaml_that_is_none_is_refused_with_its_file(tmp_path: Path, text: str, words: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_agent_config(path)
    assert str(path) in str(error.value)
    assert words in str(error.value)


def test_a_yaml_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read .*give the path of a YAML file"):
        load_agent_config("nowhere.yaml")


@SIDES
@pytest.mark.parametrize("pair", [(7, 0), (0, 9), (-1, 0), (1, 1), (0, -1)])
def test_an_illegal_action_is_named(agent_type, pair):
    with pytest.raises(ActionError) as error:
        build(agent_type).convert_action_to_logit_index(torch.tensor([[0, 0], list(pair)]))
    assert str(pair[0]) in str(error.value)
    assert str(pair[1]) in str(error.value)


@SIDES
@pytest.mark.parametrize("index", [-1, 19])
def test_an_illegal_logit_index_is_named(agent_type, index):
    with pytest.raises(ActionError, match=str(index)):
        build(agent_type).convert_logit_index_to_action(torch.tensor([0, index]))


@SIDES
@pytest.mark.parametrize(
    ("shape", "batch"),
    [((2, 199, 3), [2]), ((2, 200, 4), [2]), ((2, 3, 500, 3), [2, 3]), ((0, 200, 3), [0]), ((2, 0, 200, 3), [2, 0])],
    ids=["too few tokens", "four numbers a token", "another environment's", "empty batch", "no time step"],
)
def test_observations_that_do_not_fit_are_refused_with_both_shapes(agent_type, shape, batch):
    td = TensorDict({"env_obs": torch.zeros(shape, dtype=torch.uint8)}, batch_size=batch)
    with pytest.raises(ObservationError) as error:
        build(agent_type)(td)
    assert "env_obs" in str(error.value)
    assert str(list(shape)) in str(error.value)
    assert "200, 3" in str(error.value)


@SIDES
def test_a_key_no_policy_knows_is_refused(agent_type):
    policy = type(build(agent_type).policy)
    with pytest.raises(ConfigError) as error:
        policy(load_environment(DEFAULT), components=content()["components"], clip_rnage=1.0)  # type: ignore[call-arg]
    assert all(word in str(error.value) for word in ("clip_rnage", "clip_range")), error.value


def test_an_agent_type_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as error:
        build("fsat")
    assert all(word in str(error.value) for word in ("mine.yaml", "fsat", "fast")), error.value


@SIDES
def test_an_upstream_yaml_with_dotted_targets_loads_unchanged(agent_type):
    modules = {
        "ObsTokenToBoxShaper": "obs_token_to_box_shaper",
        "ObservationNormalizer": "observation_normalizer",
        "LSTM": "lstm",
        "ActionEmbedding": "action",
        "MettaActorSingleHead": "actor",
    }
    upstream = content()
    upstream["_target_"] = "metta.agent.metta_agent.MettaAgent"
    for settings in upstream["components"].values():
        kind = settings["_target_"]
        settings["_target_"] = f"metta.agent.lib.{modules.get(kind, 'nn_layer_library')}.{kind}"
    agent = build(agent_type, upstream)
    assert sum(parameter.numel() for parameter in agent.parameters()) == 574_978
    assert agent.extra_config == {"_target_": "metta.agent.metta_agent.MettaAgent"}

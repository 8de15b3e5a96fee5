"""The reference's YAML graph: what it refuses, what it says then, and in which order it runs."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from component_builders import DEFAULT, FAST, SMALL, small_components, small_policy

from parity.agents.component import ComponentPolicy, graph
from parity.agents.component.registry import KINDS, UPSTREAM_KINDS
from parity.agents.config import agent_config, parse_yaml
from parity.agents.errors import ConfigError

UPSTREAM_MODULES = {
    "ObsTokenToBoxShaper": "obs_token_to_box_shaper",
    "ObservationNormalizer": "observation_normalizer",
    "LSTM": "lstm",
    "ActionEmbedding": "action",
    "MettaActorSingleHead": "actor",
}


def refusal(**changes: Any) -> str:
    """Change the small graph, expect the policy to refuse it, and return the message; None removes a component."""
    components = small_components()
    for name, change in changes.items():
        if change is None:
            del components[name]
        else:
            components[name] = {**components.get(name, {}), **change}
    with pytest.raises(ConfigError) as caught:
        ComponentPolicy(SMALL, components=components, source="agent.yaml")
    message = str(caught.value)
    assert message.startswith("agent.yaml: ")
    return message


@pytest.mark.parametrize("name", graph.REQUIRED)
def test_a_missing_required_component_is_named(name: str) -> None:
    assert f"required component(s) {name!r} missing" in refusal(**{name: None})


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"conv": {"nn_parms": {}}}, ["component 'conv'", "'nn_parms'", "did you mean 'nn_params'"]),
        ({"conv": {"nn_params": {"kernel": 2}}}, ["component 'conv'", "'kernel' in nn_params", "'kernel_size'"]),
        ({"flat": {"clip_scale": 2}}, ["component 'flat'", "'clip_scale'", "known: "]),
        ({"flat": {"sources": "conv"}}, ["component 'flat'", "sources is 'conv'", "[{name: _obs_}]"]),
        ({"flat": {"sources": ["conv"]}}, ["component 'flat'", "source 'conv'", "{name: _obs_}"]),
        ({"flat": {"sources": [{"name": "conv", "slice": 1}]}}, ["'slice' in source 'conv'", "known: name"]),
        ({"_core_": {"sources": [{"name": "flatt"}]}}, ["component '_core_'", "source 'flatt'", "did you mean 'flat'"]),
        ({"flat": {"sources": None}}, ["component 'flat'", "Flatten takes 1 source(s), but sources names 0"]),
        ({"conv": {"nn_params": 3}}, ["component 'conv'", "nn_params is 3"]),
        ({"conv": {"_target_": "Conv3d"}}, ["unknown _target_ 'Conv3d'", "did you mean 'Conv2d'"]),
        ({"conv": {"_target_": "os.system"}}, ["unknown _target_ 'os.system'", "never imported from a path"]),
        ({"conv": {"_target_": "my.lib.Linear"}}, ["unknown _target_ 'my.lib.Linear'", "did you mean 'Linear'"]),
        ({"conv": {"_target_": 5}}, ["component 'conv'", "_target_ is 5"]),
        (
            {"_action_": {"_target_": "metta.agent.lib.actor.MettaActorBig"}},
            ["component '_action_'", "'metta.agent.lib.actor.MettaActorBig' is known upstream", "MettaActorSingleHead"],
        ),
        ({"critic": {"nonlinearity": "nn.Tan"}}, ["component 'critic'", "'nn.Tan'", "did you mean 'nn.Tanh'"]),
        ({"critic": {"clip_scale": -1}}, ["component 'critic'", "clip_scale is -1"]),
        ({"critic": {"l2_init_scale": "x"}}, ["component 'critic'", "l2_init_scale is 'x'"]),
        ({"critic": {"analyze_weights": 1}}, ["component 'critic'", "analyze_weights is 1", "true or false"]),
        ({"critic": {"nn_params": {"out_features": 2.5}}}, ["component 'critic'", "out_features is 2.5"]),
        ({"critic": {"nn_params": {"out_features": True}}}, ["component 'critic'", "out_features is True"]),
        ({"critic": {"nn_params": {}}}, ["component 'critic'", "no 'out_features'"]),
        ({"_core_": {"output_size": None}}, ["component '_core_'", "neither output_size nor nn_params.hidden_size"]),
        ({"_core_": {"output_size": 0}}, ["component '_core_'", "output_size is 0"]),
        ({"_core_": {"nn_params": {"hidden_size": 6}}}, ["output_size is 5 but nn_params.hidden_size is 6"]),
        ({"_core_": {"sources": [{"name": "conv"}]}}, ["component '_core_'", "[3, 3, 2]", "flatten it first"]),
        ({"_value_": {"nn_params": {"out_features": 2}}}, ["component '_value_'", "gives [2] per row"]),
        ({"_core_": {"_target_": "Identity", "nn_params": {}}}, ["component '_core_'", "must be a LSTM"]),
        ({"_obs_": {"_target_": "Flatten", "sources": [{"name": "flat"}]}}, ["cycle"]),
        ({"critic": {"sources": [{"name": "_action_"}]}}, ["component 'critic'", "takes _action_"]),
        (
            {"_action_": {"sources": [{"name": "_action_embeds_"}, {"name": "_core_"}]}},
            ["component '_action_'", "sources are _action_embeds_, _core_", "give hidden rows, then _action_embeds_"],
        ),
        ({"norm": {"sources": [{"name": "flat"}]}, "flat": {"sources": [{"name": "_obs_"}]}}, ["[5, width, height]"]),
        ({"conv": {"sources": [{"name": "flat"}]}, "flat": {"sources": [{"name": "norm"}]}}, ["takes a box"]),
        ({"keys": {"_target_": "ReLU", "sources": [{"name": "flat"}]}}, ["component 'keys'", "cannot be a module's"]),
        ({"core2": {"_target_": "LSTM", "sources": [{"name": "flat"}], "output_size": 2}}, ["second recurrent core"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else next(iter(value)),
)
def test_refusals_name_the_component_the_value_and_the_remedy(changes: dict[str, Any], parts: list[str]) -> None:
    message = refusal(**changes)
    for part in parts:
        assert part in message


def test_a_component_without_a_target_is_refused() -> None:
    components = small_components()
    del components["conv"]["_target_"]
    with pytest.raises(ConfigError, match="component 'conv': has no _target_"):
        ComponentPolicy(SMALL, components=components)


def test_a_cycle_is_shown_as_its_path() -> None:
    message = refusal(norm={"sources": [{"name": "flat"}]})
    assert "component 'norm': sources form a cycle: norm -> flat -> conv -> norm; take one" in message


def test_a_cycle_in_an_unused_corner_is_refused() -> None:
    loop = {"_target_": "ReLU", "sources": [{"name": "loop"}]}
    assert "component 'loop': sources form a cycle: loop -> loop" in refusal(loop=loop)


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"out_channels": 2, "kernel_size": 5}, "kernel_size 5 is larger than its input of 4 cells with padding 0"),
        ({"out_channels": 2, "kernel_size": 4}, "kernel_size 4 is larger than its input of 3 cells"),
        ({"out_channels": 2, "kernel_size": 1.5}, "kernel_size is 1.5"),
        ({"out_channels": 0, "kernel_size": 2}, "out_channels is 0"),
        ({"out_channels": 2, "kernel_size": 2, "stride": -1}, "stride is -1"),
        ({"out_channels": 2, "kernel_size": 2, "padding": "same"}, "padding is 'same'"),
    ],
)
def test_convolution_sizes_must_be_whole_and_fit_the_grid(params: dict[str, Any], part: str) -> None:
    message = refusal(conv={"nn_params": params})
    assert "component 'conv'" in message and part in message


def test_annotations_of_upstream_are_accepted_everywhere() -> None:
    components = small_components()
    for settings in components.values():
        settings.update(effective_rank=True, analyze_weights=True, mlp_out_hidden_dim=4, atr_embed_dim=3)
        settings.setdefault("output_size", 9)
    ComponentPolicy(SMALL, components=components)


def test_components_run_after_their_sources_whatever_the_order_in_the_file() -> None:
    backwards = dict(reversed(small_components().items()))
    nodes = graph.read_graph(backwards, "")
    order = graph.execution_order(nodes, tuple(nodes), "")
    for name, node in nodes.items():
        assert all(order.index(source) < order.index(name) for source in node.sources)
    shuffled = ComponentPolicy(SMALL, components=backwards, dtype=small_policy().dtype)
    assert list(shuffled.components) == list(backwards)
    straight = ComponentPolicy(SMALL, components=small_components(), dtype=shuffled.dtype).state_dict()
    assert all(value.equal(straight[key]) for key, value in shuffled.state_dict().items())


def test_a_component_that_feeds_no_head_is_built_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    spare = {"_target_": "Linear", "sources": [{"name": "flat"}], "nn_params": {"out_features": 2}}
    with caplog.at_level(logging.WARNING):
        policy = ComponentPolicy(SMALL, components={**small_components(), "spare": spare})
    assert "spare" in policy.components and "['spare']" in caplog.text


def test_fast_has_the_published_number_of_parameters() -> None:
    policy = ComponentPolicy(DEFAULT, components=FAST.components)
    assert sum(parameter.numel() for parameter in policy.parameters()) == 574_978
    names = {name for name, _ in policy.named_parameters()}
    assert {"components.cnn1.net.weight", "components._core_.net.weight_ih_l0", "components._action_.W"} <= names


def test_an_upstream_yaml_with_dotted_targets_loads_unchanged() -> None:
    lines = ["_target_: metta.agent.metta_agent.MettaAgent", "policy_selector: {type: top}", "components:"]
    for name, settings in FAST.components.items():
        kind = settings["_target_"]
        lines += [
            f"  {name}:",
            f"    _target_: metta.agent.lib.{UPSTREAM_MODULES.get(kind, 'nn_layer_library')}.{kind}",
            *(f"    {key}: {value}" for key, value in settings.items() if key != "_target_"),
        ]
    text = re.sub(r"\bNone\b", "null", "\n".join(lines).replace("True", "true"))
    config = agent_config(parse_yaml(text, "upstream.yaml"), source="upstream.yaml")
    assert set(config.extra) == {"_target_", "policy_selector"}
    dotted = ComponentPolicy(DEFAULT, components=config.components, extra_config=config.extra).state_dict()
    plain = ComponentPolicy(DEFAULT, components=FAST.components).state_dict()
    assert dotted.keys() == plain.keys()
    assert all(value.equal(plain[key]) for key, value in dotted.items())


def test_no_kind_of_the_library_is_listed_as_missing_from_it() -> None:
    assert not UPSTREAM_KINDS & set(KINDS)

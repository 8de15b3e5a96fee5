"""The pair `fast`: convolutions, two linear layers, an LSTM, a critic and a single-head actor."""

from __future__ import annotations

from parity.builtin.build import CAPABILITIES, RECORDINGS, builder, default_recipe, recordings
from parity.environments.generated import generate_tokens
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import ComponentLink, Pair

#: Reference component -> attribute of the candidate, in the order of execution.
COMPONENTS = {
    "_obs_": "box",
    "obs_normalizer": "normalizer",
    "cnn1": "cnn1",
    "cnn2": "cnn2",
    "obs_flattener": "flattener",
    "fc1": "fc1",
    "encoded_obs": "encoded_obs",
    "_core_": "core",
    "critic_1": "critic_1",
    "_value_": "value_head",
    "actor_1": "actor_1",
    "_action_embeds_": "action_embeds",
    "_action_": "action_head",
}

_LAYERS = ("cnn1", "cnn2", "fc1", "encoded_obs", "critic_1", "_value_", "actor_1")
_LSTM = tuple(f"{kind}_l{layer}" for layer in (0, 1) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

PARAMETERS = (
    *(
        ParameterLink(f"policy.components.{name}.net.{role}", f"policy.{COMPONENTS[name]}.0.{role}")
        for name in _LAYERS
        for role in ("weight", "bias")
    ),
    *(ParameterLink(f"policy.components._core_.net.{name}", f"policy.core.lstm.{name}") for name in _LSTM),
    ParameterLink("policy.components._action_embeds_.net.weight", "policy.action_embeds.weight"),
    ParameterLink("policy.components._action_.W", "policy.action_head.W"),
    ParameterLink("policy.components._action_.bias", "policy.action_head.bias"),
)

#: Sizes that construction varies, to see that both sides read them from the YAML.
SIZES = {
    ("cnn1", "nn_params", "out_channels"): (64, 8),
    ("cnn2", "nn_params", "kernel_size"): (3, 2),
    ("fc1", "nn_params", "out_features"): (128, 24),
    ("encoded_obs", "nn_params", "out_features"): (128, 40),
    ("_core_", "output_size"): (128, 32),
    ("critic_1", "nn_params", "out_features"): (1024, 48),
    ("actor_1", "nn_params", "out_features"): (512, 56),
    ("_action_embeds_", "nn_params", "embedding_dim"): (16, 5),
    ("_action_embeds_", "nn_params", "num_embeddings"): (100, 120),
}


def pair() -> Pair:
    """The pair, on the default environment, with the shipped recordings."""
    return Pair(
        name="fast",
        recipe=default_recipe("fast"),
        reference=builder(None),
        candidate=builder("fast"),
        components=tuple(
            ComponentLink(name, f"policy.components.{name}", f"policy.{attribute}")
            for name, attribute in COMPONENTS.items()
        ),
        generate=generate_tokens,
        recordings=recordings(*RECORDINGS),
        parameters=PARAMETERS,
        layers={f"policy.components.{name}.net.weight": name for name in _LAYERS},
        sizes=SIZES,
        capabilities=CAPABILITIES,
    )

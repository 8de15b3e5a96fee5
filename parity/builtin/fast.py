"""The pair `fast`: convolutions over the token box and two linear layers."""

from __future__ import annotations

from parity.builtin.build import NONLINEARITY, Encoder, metta_pair
from parity.pairs.recipe import Pair

ENCODER = Encoder(
    components={
        "_obs_": "box",
        "obs_normalizer": "normalizer",
        "cnn1": "cnn1",
        "cnn2": "cnn2",
        "obs_flattener": "flattener",
        "fc1": "fc1",
        "encoded_obs": "encoded_obs",
    },
    layers=("cnn1", "cnn2", "fc1", "encoded_obs"),
    sizes={
        ("cnn1", "nn_params", "out_channels"): 8,
        ("cnn1", NONLINEARITY): "nn.Tanh",
        ("cnn2", "nn_params", "kernel_size"): 2,
        ("fc1", "nn_params", "out_features"): 24,
        ("encoded_obs", "nn_params", "out_features"): 40,
    },
    capabilities=frozenset({"box_observations"}),
)


def pair() -> Pair:
    """The pair."""
    return metta_pair("fast", ENCODER)

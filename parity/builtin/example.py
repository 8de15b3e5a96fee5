"""The pair `example`: convolutions over the token box beside a layer over the agent's own cell."""

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
        "center": "center",
        "center_fc": "center_fc",
        "encoded_obs": "merge",
    },
    layers=("cnn1", "cnn2", "fc1", "center_fc"),
    sizes={
        ("cnn1", "nn_params", "out_channels"): 8,
        ("cnn1", NONLINEARITY): "nn.Tanh",
        ("cnn2", "nn_params", "kernel_size"): 2,
        ("fc1", "nn_params", "out_features"): 24,
        ("center_fc", "nn_params", "out_features"): 40,
    },
    capabilities=frozenset({"box_observations"}),
)


def pair() -> Pair:
    """The pair."""
    return metta_pair("example", ENCODER)

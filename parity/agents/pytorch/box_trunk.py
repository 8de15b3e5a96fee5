"""The convolutional trunk over the token box that several agents begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.layers import Normalizer, TokensToBox
from parity.agents.pytorch.stages import conv_output_size, conv_stage, linear_stage

if TYPE_CHECKING:
    from parity.agents.pytorch.lstm_wrapper import LSTMWrapper as _Host
else:
    _Host = object

#: The trunk's part of an agent's graph.
TRUNK: Mapping[str, Node] = {
    "_obs_": Node("ObsTokenToBoxShaper"),
    "obs_normalizer": Node("ObservationNormalizer", ("_obs_",)),
    "cnn1": Node("Conv2d", ("obs_normalizer",)),
    "cnn2": Node("Conv2d", ("cnn1",)),
    "obs_flattener": Node("Flatten", ("cnn2",)),
    "fc1": Node("Linear", ("obs_flattener",)),
}


class BoxTrunk(_Host):
    """The components of ``TRUNK``: box, normalisation, two convolutions and a linear layer."""

    def build_trunk(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """Build the modules of ``TRUNK``; return how many features ``look_around`` gives."""
        width, height = env.obs_width, env.obs_height
        self.box = TokensToBox(env.num_layers, width, height, dtype=dtype)
        self.normalizer = Normalizer(env.num_layers, dtype=dtype)
        self.cnn1 = conv_stage(parts["cnn1"], env.num_layers, seed=seed, dtype=dtype)
        width, height = conv_output_size(parts["cnn1"], width, height)
        self.cnn2 = conv_stage(parts["cnn2"], parts["cnn1"].sizes["out_channels"], seed=seed, dtype=dtype)
        width, height = conv_output_size(parts["cnn2"], width, height)
        self.flattener = nn.Flatten()
        flat = parts["cnn2"].sizes["out_channels"] * width * height
        self.fc1 = linear_stage(parts["fc1"], flat, seed=seed, dtype=dtype)
        return parts["fc1"].sizes["out_features"]

    def set_feature_encoding(self, remap: Sequence[int], normalizations: Mapping[int, float]) -> None:
        """Hand the remapping to the box and the normalisations to the normaliser."""
        self.box.set_feature_remap(remap)
        self.normalizer.set_normalizations(normalizations)

    def read_box(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> normalised box ``[N, L, W, H]``."""
        return self.normalizer(self.box(tokens))

    def look_around(self, box: Tensor) -> Tensor:
        """Box ``[N, L, W, H]`` -> ``[N, F]``."""
        return self.fc1(self.flattener(self.cnn2(self.cnn1(box))))

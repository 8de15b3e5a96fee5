"""``fast``: a convolutional encoder over the token box, an LSTM, a critic and an actor with action embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.heads import HEADS, ActorCriticHeads
from parity.agents.pytorch.layers import Normalizer, TokensToBox
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.stages import conv_output_size, conv_stage, linear_stage

GRAPH: Mapping[str, Node] = {
    "_obs_": Node("ObsTokenToBoxShaper"),
    "obs_normalizer": Node("ObservationNormalizer", ("_obs_",)),
    "cnn1": Node("Conv2d", ("obs_normalizer",)),
    "cnn2": Node("Conv2d", ("cnn1",)),
    "obs_flattener": Node("Flatten", ("cnn2",)),
    "fc1": Node("Linear", ("obs_flattener",)),
    "encoded_obs": Node("Linear", ("fc1",)),
    "_core_": Node("LSTM", ("encoded_obs",)),
    **HEADS,
}


class Fast(ActorCriticHeads, PyTorchAgentMixin, LSTMWrapper):
    """The hand-written twin of the graph in ``fixtures/agents/fast.yaml``."""

    AGENT_TYPE = "fast"
    GRAPH = GRAPH

    def build_encoder(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """See ``PyTorchAgentMixin``."""
        width, height = env.obs_width, env.obs_height
        self.box = TokensToBox(env.num_layers, width, height, dtype=dtype)
        self.normalizer = Normalizer(env.num_layers, dtype=dtype)
        self.cnn1 = conv_stage(parts["cnn1"], env.num_layers, seed=seed, dtype=dtype)
        width, height = conv_output_size(parts["cnn1"], width, height)
        self.cnn2 = conv_stage(parts["cnn2"], parts["cnn1"].sizes["out_channels"], seed=seed, dtype=dtype)
        width, height = conv_output_size(parts["cnn2"], width, height)
        self.flattener = nn.Flatten()
        self.fc1 = linear_stage(
            parts["fc1"], parts["cnn2"].sizes["out_channels"] * width * height, seed=seed, dtype=dtype
        )
        self.encoded_obs = linear_stage(
            parts["encoded_obs"], parts["fc1"].sizes["out_features"], seed=seed, dtype=dtype
        )
        return parts["encoded_obs"].sizes["out_features"]

    def set_feature_encoding(self, remap: Sequence[int], normalizations: Mapping[int, float]) -> None:
        """Hand the remapping to the box and the normalisations to the normaliser."""
        self.box.set_feature_remap(remap)
        self.normalizer.set_normalizations(normalizations)

    def encode_observations(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> ``[N, F]``."""
        image = self.cnn2(self.cnn1(self.normalizer(self.box(tokens))))
        return self.encoded_obs(self.fc1(self.flattener(image)))

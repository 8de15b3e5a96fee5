"""``fast``: a convolutional encoder over the token box, an LSTM, a critic and an actor with action embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.box_trunk import TRUNK, BoxTrunk
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.heads import HEADS, ActorCriticHeads
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.stages import linear_stage

GRAPH: Mapping[str, Node] = {
    **TRUNK,
    "encoded_obs": Node("Linear", ("fc1",)),
    "_core_": Node("LSTM", ("encoded_obs",)),
    **HEADS,
}


class Fast(BoxTrunk, ActorCriticHeads, PyTorchAgentMixin, LSTMWrapper):
    """The hand-written twin of the graph in ``fixtures/agents/fast.yaml``."""

    AGENT_TYPE = "fast"
    GRAPH = GRAPH

    def build_encoder(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """See ``PyTorchAgentMixin``."""
        seen = self.build_trunk(env, parts, seed=seed, dtype=dtype)
        self.encoded_obs = linear_stage(parts["encoded_obs"], seen, seed=seed, dtype=dtype)
        return parts["encoded_obs"].sizes["out_features"]

    def encode_observations(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> ``[N, F]``."""
        return self.encoded_obs(self.look_around(self.read_box(tokens)))

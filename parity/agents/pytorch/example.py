"""``example``: convolutions over the token box beside the centre cell's features, an LSTM, a critic and an actor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.box_trunk import TRUNK, BoxTrunk
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.heads import HEADS, ActorCriticHeads
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.stages import linear_stage

GRAPH: Mapping[str, Node] = {
    **TRUNK,
    "center": Node("CenterCell", ("obs_normalizer",)),
    "center_fc": Node("Linear", ("center",)),
    "encoded_obs": Node("Concat", ("fc1", "center_fc")),
    "_core_": Node("LSTM", ("encoded_obs",)),
    **HEADS,
}


class CenterCell(nn.Module):
    """What the agent's own cell holds: box ``[N, L, W, H]`` -> ``[N, L]``."""

    def forward(self, box: Tensor) -> Tensor:
        """Read the cell at (W // 2, H // 2)."""
        return box[:, :, box.shape[2] // 2, box.shape[3] // 2]


class Merge(nn.Module):
    """Two encodings side by side: ``[N, F]`` and ``[N, G]`` -> ``[N, F + G]``."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Concatenate."""
        return torch.cat((first, second), dim=1)


class Example(BoxTrunk, ActorCriticHeads, PyTorchAgentMixin, LSTMWrapper):
    """The hand-written twin of the graph in ``fixtures/agents/example.yaml``."""

    AGENT_TYPE = "example"
    GRAPH = GRAPH

    def build_encoder(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """See ``PyTorchAgentMixin``."""
        seen = self.build_trunk(env, parts, seed=seed, dtype=dtype)
        self.center = CenterCell()
        self.center_fc = linear_stage(parts["center_fc"], env.num_layers, seed=seed, dtype=dtype)
        self.merge = Merge()
        return seen + parts["center_fc"].sizes["out_features"]

    def encode_observations(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> ``[N, F]``."""
        box = self.read_box(tokens)
        return self.merge(self.look_around(box), self.center_fc(self.center(box)))

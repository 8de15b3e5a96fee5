"""The candidates: agents in plain PyTorch. The names here are what an agent of one's own is written with."""

from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.heads import HEADS, ActorCriticHeads
from parity.agents.pytorch.layers import Normalizer, TokensToBox
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.stages import conv_stage, encoder_linear, linear_stage

__all__ = [
    "HEADS",
    "ActorCriticHeads",
    "Component",
    "LSTMWrapper",
    "Node",
    "Normalizer",
    "PyTorchAgentMixin",
    "TokensToBox",
    "conv_stage",
    "encoder_linear",
    "linear_stage",
]

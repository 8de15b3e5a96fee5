"""The heads that every candidate has: a critic, and an actor over action embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parity.agents.errors import ConfigError
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.layers import ActionEmbedding, ActionHead
from parity.agents.pytorch.stages import Stage, linear_stage

if TYPE_CHECKING:
    from parity.agents.pytorch.lstm_wrapper import LSTMWrapper as _Host
else:
    _Host = object

#: The heads' part of an agent's graph.
HEADS: Mapping[str, Node] = {
    "critic_1": Node("Linear", ("_core_",)),
    "_value_": Node("Linear", ("critic_1",)),
    "actor_1": Node("Linear", ("_core_",)),
    "_action_embeds_": Node("ActionEmbedding"),
    "_action_": Node("MettaActorSingleHead", ("actor_1", "_action_embeds_")),
}


class ActorCriticHeads(_Host):
    """``decode_actions`` over the components of ``HEADS``; put it first among an agent's bases."""

    critic_1: Stage
    value_head: Stage
    actor_1: Stage
    action_embeds: ActionEmbedding
    action_head: ActionHead

    def build_heads(self, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype) -> None:
        """Build the modules of ``HEADS``; the recurrent core must be there.

        Raises:
            ConfigError: ``_value_`` has more than one output.
        """
        if parts["_value_"].sizes["out_features"] != 1:
            raise ConfigError(
                f"{parts['_value_'].where}: nn_params.out_features is {parts['_value_'].sizes['out_features']}; "
                "give 1, a state has one value"
            )
        actor, embedding = parts["actor_1"].sizes["out_features"], parts["_action_embeds_"].sizes["embedding_dim"]
        self.critic_1 = linear_stage(parts["critic_1"], self.hidden_size, seed=seed, dtype=dtype)
        self.value_head = linear_stage(
            parts["_value_"], parts["critic_1"].sizes["out_features"], seed=seed, dtype=dtype
        )
        self.actor_1 = linear_stage(parts["actor_1"], self.hidden_size, seed=seed, dtype=dtype)
        self.action_embeds = ActionEmbedding(parts["_action_embeds_"], seed=seed, dtype=dtype)
        self.action_head = ActionHead(parts["_action_"], actor, embedding, seed=seed, dtype=dtype)

    def decode_actions(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The core's output ``[N, H]`` -> logits ``[N, A]`` and value ``[N]``."""
        value = self.value_head(self.critic_1(hidden)).squeeze(-1)
        return self.action_head(self.actor_1(hidden), self.action_embeds()), value

"""Faults behind the recurrent core: critic, actor, action embeddings, log-probabilities, entropy, cut gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, FULL_LOG_PROBS
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.layers import ActionEmbedding, ActionHead
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
UPSTREAM_ACTIONS = "upstream history: action embeddings and log-probabilities"
TRACKERS = "issue trackers of other reinforcement-learning projects"


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="critic_1", phase="forward")
def critic_without_tanh(patch: Patcher) -> None:
    """The critic's hidden layer is linear."""

    def change(agent: Any) -> None:
        del agent.policy.critic_1[1]

    patch.built("candidate", change)


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="actor_1", phase="forward")
def relu_missing_after_actor_1(patch: Patcher) -> None:
    """The actor's hidden layer is not rectified."""

    def change(agent: Any) -> None:
        del agent.policy.actor_1[1]

    patch.built("candidate", change)


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="_action_", phase="forward")
def actor_query_without_tanh(patch: Patcher) -> None:
    """The actor's query reaches the embeddings without its tanh."""
    patch.attribute(ActionHead, "forward", lambda self, hidden, rows: torch.addmm(self.bias, hidden @ self.W, rows.t()))


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="_action_", phase="forward")
def actor_bias_dropped(patch: Patcher) -> None:
    """The actor's bias is not added; no probability shows it, for it shifts all logits alike."""
    patch.attribute(ActionHead, "forward", lambda self, hidden, rows: torch.tanh(hidden @ self.W) @ rows.t())


def _change_logits(patch: Patcher, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Let the head return ``change(logits, rows)``."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, hidden, rows: change(original(self, hidden, rows), rows)

    patch.wrap(ActionHead, "forward", make)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="_action_", phase="forward")
def actor_scores_scaled_like_attention(patch: Patcher) -> None:
    """The logits are divided by the square root of the embedding's width."""
    _change_logits(patch, lambda logits, rows: logits / math.sqrt(rows.shape[1]))


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="_action_", phase="forward")
def two_logits_swapped(patch: Patcher) -> None:
    """The first two logits change places."""
    _change_logits(patch, lambda logits, rows: torch.cat([logits[:, :2].flip(1), logits[:, 2:]], dim=1))


@CATALOGUE.fault(origin=UPSTREAM_ACTIONS, check="forward", component="_action_embeds_", phase="forward")
def action_embeddings_averaged(patch: Patcher) -> None:
    """Every action is scored with the mean of the active rows."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: ActionEmbedding) -> Tensor:
            rows = original(self)
            return rows.mean(0, keepdim=True).expand_as(rows)

        return forward

    patch.wrap(ActionEmbedding, "forward", make)


# What training mode returns


def _change_output(patch: Patcher, change: Callable[[TensorDictBase, Tensor], None]) -> None:
    """Alter what training mode returns, by ``change(td, logits)``; both are ``[B, T]`` in front."""

    def make(original: Callable[..., TensorDictBase]) -> Callable[..., TensorDictBase]:
        def handle(self: Fast, td: TensorDictBase, action: Tensor, logits: Tensor, value: Tensor) -> TensorDictBase:
            out = original(self, td, action, logits, value)
            change(out, logits.view(*action.shape[:2], -1))
            return out

        return handle

    patch.wrap(Fast, "handle_training_mode", make)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="entropy", phase="forward")
def entropy_with_the_wrong_sign(patch: Patcher) -> None:
    """The entropy is returned as the sum of p log p, so that a bonus on it drives exploration out."""

    def change(td: TensorDictBase, _logits: Tensor) -> None:
        td[ENTROPY] = -td[ENTROPY]

    _change_output(patch, change)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="entropy", phase="forward")
def entropy_in_bits(patch: Patcher) -> None:
    """The entropy is taken to base 2."""

    def change(td: TensorDictBase, _logits: Tensor) -> None:
        td[ENTROPY] = td[ENTROPY] / math.log(2.0)

    _change_output(patch, change)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="full_log_probs", phase="forward")
def softmax_over_the_batch(patch: Patcher) -> None:
    """Log-probabilities are normalised over the rows instead of over the actions."""

    def change(td: TensorDictBase, logits: Tensor) -> None:
        td[FULL_LOG_PROBS] = torch.log_softmax(logits, dim=0)

    _change_output(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_ACTIONS, check="forward", component="full_log_probs", phase="forward")
def full_log_probs_unnormalised(patch: Patcher) -> None:
    """The logits are returned where log-probabilities are asked for."""

    def change(td: TensorDictBase, logits: Tensor) -> None:
        td[FULL_LOG_PROBS] = logits

    _change_output(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_ACTIONS, check="forward", component="act_log_prob", phase="forward")
def log_prob_averaged_per_head(patch: Patcher) -> None:
    """The log-probability is a mean over the two parts of an action, type and argument, instead of their sum."""

    def change(td: TensorDictBase, _logits: Tensor) -> None:
        td[ACT_LOG_PROB] = td[ACT_LOG_PROB] / 2

    _change_output(patch, change)


# Gradients. In each of these the forward pass keeps its bits.


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="_core_", phase="backward")
def critic_cut_from_the_core(patch: Patcher) -> None:
    """The critic reads a detached hidden state, so the value loss never trains core and encoder."""

    def decode_actions(self: Fast, hidden: Tensor) -> tuple[Tensor, Tensor]:
        value = self.value_head(self.critic_1(hidden.detach())).squeeze(-1)
        return self.action_head(self.actor_1(hidden), self.action_embeds()), value

    patch.attribute(Fast, "decode_actions", decode_actions)


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="_core_", phase="backward")
def actor_cut_from_the_core(patch: Patcher) -> None:
    """The actor reads a detached hidden state."""

    def decode_actions(self: Fast, hidden: Tensor) -> tuple[Tensor, Tensor]:
        value = self.value_head(self.critic_1(hidden)).squeeze(-1)
        return self.action_head(self.actor_1(hidden.detach()), self.action_embeds()), value

    patch.attribute(Fast, "decode_actions", decode_actions)


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="_action_", phase="backward")
def gradient_doubled_in_the_action_head(patch: Patcher) -> None:
    """The action head sends twice its gradient back to the actor."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, hidden, rows: original(self, 2 * hidden - hidden.detach(), rows)

    patch.wrap(ActionHead, "forward", make)


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="_action_embeds_", phase="backward")
def action_embeddings_never_trained(patch: Patcher) -> None:
    """The embedding rows are detached before they are used."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self: original(self).detach()

    patch.wrap(ActionEmbedding, "forward", make)


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="_action_", phase="backward")
def action_bias_outside_the_graph(patch: Patcher) -> None:
    """The scalar bias is added detached: it cannot change a softmax, so no training shows that it stays as it was."""

    def forward(self: ActionHead, hidden: Tensor, rows: Tensor) -> Tensor:
        return torch.addmm(self.bias.detach(), torch.tanh(hidden @ self.W), rows.t())

    patch.attribute(ActionHead, "forward", forward)


@CATALOGUE.fault(origin=TRACKERS, check="training", component="losses", phase="forward")
def entropy_annealed_inside_the_policy(patch: Patcher) -> None:
    """The policy counts its evaluations, and after a few of them returns a little less entropy than it has."""

    def count(module: Any) -> None:
        module.policy.register_buffer("evaluations", torch.zeros((), dtype=torch.int64))

    def make(original: Callable[..., TensorDictBase]) -> Callable[..., TensorDictBase]:
        def anneal(self: Fast, *args: Any) -> TensorDictBase:
            td = original(self, *args)
            evaluations = self.get_buffer("evaluations").add_(1)
            if evaluations > 5:
                td[ENTROPY] = 0.99 * td[ENTROPY]
            return td

        return anneal

    patch.built("candidate", count)
    patch.wrap(Fast, "handle_training_mode", make)

"""Faults of actions: the two-way index, refusals, sampling, and the embedding row of each action name.

Many are caught before the check named actions, which judges the conversions themselves: a wrong index shows in the
log-probs and samples of every forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ACTIONS, FULL_LOG_PROBS
from parity.agents.pytorch import actions
from parity.agents.pytorch.actions import ActionTable
from parity.agents.pytorch.layers import ActionEmbedding
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.builtin.faults.edits import edit
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

CONTRACT = "the agents' contract: illegal pairs and indices are refused"
MUTANT = "a mutant of the candidate that no check saw"
SAMPLING = "the agents' contract: one draw per time step from the policy's own probabilities"

_in_conversion = partial(CATALOGUE.fault, check="actions", component="action conversion", phase="forward")
_in_rows = partial(CATALOGUE.fault, check="actions", component="_action_embeds_", phase="rollout")
_in_samples = partial(CATALOGUE.fault, check="forward", component="actions", phase="rollout")


def _activating(patcher: Patcher, change: Callable[[ActionTable], None]) -> None:
    """Alter the candidate's action table each time it was filled."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def activate(self: ActionTable, max_args: Sequence[int]) -> None:
            original(self, max_args)
            change(self)

        return activate

    patcher.wrap(ActionTable, "activate", make)


def _sampling(patcher: Patcher, handle: Callable[..., TensorDictBase]) -> None:
    """Answer inference by ``handle(original, self, td, logits, value)``."""
    patcher.wrap(PyTorchAgentMixin, "handle_inference_mode", lambda original: lambda *given: handle(original, *given))


def _log_probs_of(td: TensorDictBase, index: Tensor) -> Tensor:
    return td[FULL_LOG_PROBS].gather(-1, index.unsqueeze(-1)).squeeze(-1)


# Index tables


@CATALOGUE.fault(
    origin="seed document: logit index without `type +`", check="forward", component="act_log_prob", phase="forward"
)
def logit_index_without_type(patcher: Patcher) -> None:
    """An action's logit is taken as cumsum(max_args) + argument, one too low for each type before it."""

    def change(table: ActionTable) -> None:
        table.first_logit = table.max_arg.cumsum(0) - table.max_arg

    _activating(patcher, change)


@_in_samples(origin="seed document: index table shifted")
def index_table_shifted(patcher: Patcher) -> None:
    """Each logit index stands for the action of the index before it."""

    def change(table: ActionTable) -> None:
        table.pairs = table.pairs.roll(1, dims=0)

    _activating(patcher, change)


@_in_samples(origin="the agents' contract: logit -> (type, argument)")
def inverse_table_transposed(patcher: Patcher) -> None:
    """A logit index becomes (argument, type)."""

    def change(table: ActionTable) -> None:
        table.pairs = table.pairs.flip(1)

    _activating(patcher, change)


@CATALOGUE.fault(
    origin="the agents' contract: maxima are inclusive",
    check="fields",
    component="to_logit",
    phase="forward",
    raises=True,
)
def largest_argument_excluded(patcher: Patcher) -> None:
    """Maxima are read as exclusive, so that each type's largest argument is refused."""

    def change(table: ActionTable) -> None:
        table.max_arg = table.max_arg - 1

    _activating(patcher, change)


# Conversions


@CATALOGUE.fault(origin=CONTRACT, check="fields", component="an action of an unknown type", phase="forward")
def illegal_actions_clamped(patcher: Patcher) -> None:
    """An illegal action silently becomes the nearest legal one."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def to_logit(self: ActionTable, action: Tensor) -> Tensor:
            kind, arg = action.unbind(-1)
            kind = kind.clamp(0, len(self.max_arg) - 1)
            return original(self, torch.stack([kind, arg.clamp(min=0).minimum(self.max_arg[kind.long()])], dim=-1))

        return to_logit

    patcher.wrap(ActionTable, "to_logit", make)


@_in_conversion(origin=CONTRACT)
def negative_arguments_accepted(patcher: Patcher) -> None:
    """A negative argument is let through and lands on the type before."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def to_logit(self: ActionTable, action: Tensor) -> Tensor:
            below = torch.where(action[..., 1] < 0, action[..., 1], 0)
            return original(self, torch.stack([action[..., 0], action[..., 1] - below], dim=-1)) + below

        return to_logit

    patcher.wrap(ActionTable, "to_logit", make)


@_in_conversion(origin=CONTRACT)
def illegal_indices_clamped(patcher: Patcher) -> None:
    """A logit index without a logit silently becomes the nearest one."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, index: original(self, index.clamp(0, len(self.pairs) - 1))

    patcher.wrap(ActionTable, "to_action", make)


@_in_conversion(origin="the agents' contract: conversions take any leading shape", raises=True)
def conversion_of_flat_rows_only(patcher: Patcher) -> None:
    """Actions are expected as [N, 2]; a further leading axis is flattened and not put back."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, action: original(self, action.view(action.shape[0], 2))

    patcher.wrap(ActionTable, "to_logit", make)


@_in_conversion(origin=MUTANT, raises=True)
def actions_not_widened(patcher: Patcher) -> None:
    """Tables are indexed by actions of the dtype that they come in, which narrow ones do not do."""
    edit(patcher, ActionTable, "to_logit", "wide = action.to(torch.int64)", "wide = action")


@_in_conversion(origin=MUTANT, raises=True)
def single_actions_refused(patcher: Patcher) -> None:
    """A single action, without a leading axis, is refused."""
    edit(patcher, ActionTable, "to_logit", "action.shape[-1:] != (2,)", "action.shape[-1:] != (2,) or action.dim() < 2")


@_in_conversion(origin=MUTANT, raises=True)
def narrow_integers_refused(patcher: Patcher) -> None:
    """Of integers, only uint8, int32 and int64 pass for such."""
    patcher.attribute(actions, "_INTEGERS", frozenset({torch.uint8, torch.int32, torch.int64}))


# Sampling


@CATALOGUE.fault(
    origin="upstream history: act_log_prob of another action",
    check="forward",
    component="act_log_prob",
    phase="rollout",
)
def log_prob_of_the_next_action(patcher: Patcher) -> None:
    """The log-prob returned is that of the logit behind the sampled one."""

    def handle(original: Callable[..., TensorDictBase], policy: Any, *given: Any) -> TensorDictBase:
        td = original(policy, *given)
        index = policy.convert_action_to_logit_index(td[ACTIONS])
        return td.set(ACT_LOG_PROB, _log_probs_of(td, (index + 1) % td[FULL_LOG_PROBS].shape[-1]))

    _sampling(patcher, handle)


@CATALOGUE.fault(origin=SAMPLING, check="forward", component="actions", phase="rollout")
def argmax_instead_of_sampling(patcher: Patcher) -> None:
    """The likeliest action is taken every time."""

    def handle(original: Callable[..., TensorDictBase], policy: Any, *given: Any) -> TensorDictBase:
        td = original(policy, *given)
        index = td[FULL_LOG_PROBS].argmax(-1)
        td.set(ACTIONS, policy.convert_logit_index_to_action(index))
        return td.set(ACT_LOG_PROB, _log_probs_of(td, index))

    _sampling(patcher, handle)


@_in_samples(origin=SAMPLING)
def sampling_with_a_temperature(patcher: Patcher) -> None:
    """Actions are drawn at a temperature of 4, while the log-probs are those of the true ones."""

    def handle(original: Callable[..., TensorDictBase], policy: Any, td: Any, logits: Tensor, value: Tensor) -> Any:
        original(policy, td, 0.25 * logits, value)
        td.set(FULL_LOG_PROBS, torch.log_softmax(logits, dim=-1).view(*td.batch_size, -1))
        return td.set(ACT_LOG_PROB, _log_probs_of(td, policy.convert_action_to_logit_index(td[ACTIONS])))

    _sampling(patcher, handle)


@CATALOGUE.fault(origin=SAMPLING, check="forward", component="actions", phase="sequence")
def sequence_sampled_in_one_draw(patcher: Patcher) -> None:
    """A sequence takes its random numbers row by row, where stepping takes them step by step."""

    def handle(original: Callable[..., TensorDictBase], policy: Any, td: TensorDictBase, *rows: Any) -> TensorDictBase:
        return td.update(original(policy, td.reshape(-1), *rows).reshape(td.batch_size))

    _sampling(patcher, handle)


# Embedding rows


@_in_rows(origin="upstream history: embedding rows `0..A` instead of the activated ones")
def first_rows_instead_of_active_ones(patcher: Patcher) -> None:
    """The first A rows are read, whichever names are active."""
    patcher.attribute(ActionEmbedding, "forward", lambda self: self.weight[: len(self.active_rows)])


@_in_rows(origin="the agents' contract: a name keeps its row for good")
def rows_reassigned_on_activation(patcher: Patcher) -> None:
    """Each activation hands the rows out anew."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def activate(self: ActionEmbedding, full_names: Sequence[str]) -> None:
            self.row_of_name = {}
            original(self, full_names)

        return activate

    patcher.wrap(ActionEmbedding, "activate", make)


@CATALOGUE.fault(
    origin="the agents' contract: rows in the order names are first seen",
    check="forward",
    component="_action_embeds_",
    phase="forward",
)
def rows_in_sorted_order(patcher: Patcher) -> None:
    """Rows are handed out by sorted name, which in the default environment is the same."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def activate(self: ActionEmbedding, full_names: Sequence[str]) -> None:
            original(self, sorted(full_names))
            original(self, full_names)

        return activate

    patcher.wrap(ActionEmbedding, "activate", make)


@_in_rows(origin=MUTANT)
def rows_kept_if_equally_many(patcher: Patcher) -> None:
    """A space of as many actions as the one before is read at that one's rows."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def activate(self: ActionEmbedding, full_names: Sequence[str]) -> None:
            before = self.active_rows
            original(self, full_names)
            if len(before) == len(self.active_rows):
                self.active_rows = before

        return activate

    patcher.wrap(ActionEmbedding, "activate", make)


@CATALOGUE.fault(origin=MUTANT, check="actions", component="_action_embeds_", phase="build")
def restored_rows_merge(patcher: Patcher) -> None:
    """Rows that are restored join those that the table has, instead of replacing them."""
    edit(patcher, ActionEmbedding, "restore", "self.row_of_name = dict(rows)", "self.row_of_name.update(rows)")

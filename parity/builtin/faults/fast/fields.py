"""Faults of what is read from and written to a TensorDict, and of what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import ACTIONS, BATCH, BPTT, ENV_OBS, MEMORY_C, MEMORY_H, PADDING_BYTE, VALUES, FieldSpec
from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.layers import TokensToBox
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

REFUSED = "the agents' contract: what a policy refuses"

_in_rollout = partial(CATALOGUE.fault, check="fields", phase="rollout")
_in_training = partial(CATALOGUE.fault, check="fields", phase="forward")


def _writing(patcher: Patcher, fields: Callable[[TensorDictBase, int, int], dict[str, Tensor]]) -> None:
    """Set what ``fields(td, steps, batch)`` returns instead of bptt and batch."""

    def set_tensordict_fields(self: Any, td: TensorDictBase, observations: Tensor) -> tuple[int, int]:
        batch, steps = observations.shape[0], observations.shape[1] if observations.dim() == 4 else 1
        td.update(fields(td, steps, batch))
        return batch, steps

    patcher.attribute(PyTorchAgentMixin, "set_tensordict_fields", set_tensordict_fields)


def _after(patcher: Patcher, method: str, change: Callable[..., TensorDictBase]) -> None:
    """Pass what a method returned through ``change(td, *arguments)``."""

    def make(original: Callable[..., TensorDictBase]) -> Callable[..., TensorDictBase]:
        return lambda self, *arguments: change(original(self, *arguments), *arguments)

    patcher.wrap(PyTorchAgentMixin, method, make)


def _before_box(patcher: Patcher, change: Callable[[TokensToBox, Tensor], object]) -> None:
    """Run ``change(box, tokens)`` before the candidate's box is made of the tokens."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: TokensToBox, tokens: Tensor) -> Tensor:
            change(self, tokens)
            return original(self, tokens)

        return forward

    patcher.wrap(TokensToBox, "forward", make)


def _full(td: TensorDictBase, number: int) -> Tensor:
    return torch.full(td.batch_size, number, dtype=torch.int64)


# bptt and batch


@_in_rollout(origin="seed document: bptt missing", component="bptt")
def bptt_missing(patcher: Patcher) -> None:
    """Nothing writes bptt."""
    _writing(patcher, lambda td, steps, batch: {BATCH: _full(td, batch)})


@_in_rollout(origin="seed document: batch missing", component="batch")
def batch_missing(patcher: Patcher) -> None:
    """Nothing writes batch."""
    _writing(patcher, lambda td, steps, batch: {BPTT: _full(td, steps)})


@_in_rollout(origin="seed document: bptt and batch swapped", component="bptt")
def bptt_and_batch_swapped(patcher: Patcher) -> None:
    """The field bptt holds B, and batch holds T."""
    _writing(patcher, lambda td, steps, batch: {BPTT: _full(td, batch), BATCH: _full(td, steps)})


@_in_rollout(origin="seed document: bptt and batch in the TensorDict", component="bptt")
def fields_of_int32(patcher: Patcher) -> None:
    """Both fields are int32."""
    _writing(patcher, lambda td, steps, batch: {BPTT: _full(td, steps).int(), BATCH: _full(td, batch).int()})


@_in_rollout(origin="seed document: fields on the unflattened shape", component="set_tensordict_fields", raises=True)
def fields_of_shape_batch(patcher: Patcher) -> None:
    """Both fields have one entry per row of the batch, also where there is a time axis."""
    _writing(patcher, lambda _, steps, batch: {BPTT: torch.full((batch,), steps), BATCH: torch.full((batch,), batch)})


@_in_rollout(origin="the agents' contract: no key that the policy wrote is read back", component="bptt")
def stale_fields_read_back(patcher: Patcher) -> None:
    """Both fields are kept as an earlier call left them."""

    def fields(td: TensorDictBase, steps: int, batch: int) -> dict[str, Tensor]:
        return {BPTT: td.get(BPTT, _full(td, steps)), BATCH: td.get(BATCH, _full(td, batch))}

    _writing(patcher, fields)


# Training shapes


@_in_training(
    origin="seed document: TensorDict not flattened in training", component="handle_training_mode", raises=True
)
def not_flattened_in_training(patcher: Patcher) -> None:
    """Flat rows are written into a TensorDict that still has its time axis."""

    def make(original: Callable[..., TensorDictBase]) -> Callable[..., TensorDictBase]:
        return lambda self, td, action, *rows: original(self, td.reshape(action.shape[:2]), action, *rows)

    patcher.wrap(PyTorchAgentMixin, "handle_training_mode", make)


@_in_training(origin="seed document: not reshaped back", component="batch size")
def not_reshaped_back(patcher: Patcher) -> None:
    """Training returns flat rows."""
    _after(patcher, "handle_training_mode", lambda td, *_: td.reshape(-1))


@_in_training(origin="upstream history: wrong time dimension when un-flattening", component="batch size")
def reshaped_time_first(patcher: Patcher) -> None:
    """Training returns [T, B]."""
    _after(patcher, "handle_training_mode", lambda td, *_: td.reshape(td.batch_size[1], td.batch_size[0]))


@_in_training(
    origin="the agents' contract: training leaves the caller's td", component="keys of the caller's TensorDict"
)
def training_writes_into_the_callers(patcher: Patcher) -> None:
    """Training also leaves its results in the TensorDict that it was given."""

    def change(out: TensorDictBase, td: TensorDictBase, state: Any, action: Tensor | None) -> TensorDictBase:
        if action is not None:
            td.update(out)
        return out

    _after(patcher, "forward", change)


# What inference returns


@_in_rollout(origin="upstream history: values not flattened", component="values")
def values_not_flattened(patcher: Patcher) -> None:
    """Values keep the value head's last axis."""
    _after(patcher, "handle_inference_mode", lambda td, *_: td.set(VALUES, td[VALUES].unsqueeze(-1)))


@_in_rollout(origin="upstream history: actions int64 instead of int32", component="actions")
def actions_of_int64(patcher: Patcher) -> None:
    """Sampled actions are int64."""
    _after(patcher, "handle_inference_mode", lambda td, *_: td.set(ACTIONS, td[ACTIONS].long()))


@_in_rollout(origin="the agents' contract: no other key is written", component="keys returned")
def logits_left_behind(patcher: Patcher) -> None:
    """The logits stay in the caller's TensorDict under a key of their own."""
    _after(
        patcher, "handle_inference_mode", lambda td, _, logits, __: td.set("logits", logits.view(*td.batch_size, -1))
    )


@_in_rollout(origin="the agents' contract: the caller's td is returned", component="keys of the caller's TensorDict")
def inference_writes_into_a_clone(patcher: Patcher) -> None:
    """Inference writes into a clone of the TensorDict and returns that."""
    patcher.wrap(PyTorchAgentMixin, "forward", lambda forward: lambda self, td, *rest: forward(self, td.clone(), *rest))


@_in_rollout(origin="upstream history: input observation mutated in place", component="input not changed")
def observation_mutated_in_place(patcher: Patcher) -> None:
    """Padding is zeroed behind its coordinate byte, in the caller's own tensor."""

    def zero(_: TokensToBox, tokens: Tensor) -> None:
        tokens[..., 1:].masked_fill_((tokens[..., 0] == PADDING_BYTE).unsqueeze(-1), 0)

    _before_box(patcher, zero)


@_in_rollout(
    origin="upstream history: warning raised once per call", component="warnings for an unknown id in four calls"
)
def warning_at_every_call(patcher: Patcher) -> None:
    """Ignored tokens are warned of again and again."""
    _before_box(patcher, lambda box, _: setattr(box, "has_warned", False))


@_in_rollout(origin="the agents' contract: one warning", component="warnings for an unknown id in four calls")
def warning_never_raised(patcher: Patcher) -> None:
    """Tokens are ignored in silence."""
    _before_box(patcher, lambda box, _: setattr(box, "has_warned", True))


# What is refused, and what the buffer must keep


@_in_training(origin=REFUSED, component="a state argument")
def state_argument_ignored(patcher: Patcher) -> None:
    """A state that a caller hands in is dropped without a word."""

    def make(forward: Callable[..., TensorDictBase]) -> Callable[..., TensorDictBase]:
        return lambda self, td, state=None, action=None: forward(self, td, None, action)

    patcher.wrap(PyTorchAgentMixin, "forward", make)


@_in_training(origin=REFUSED, component="an empty batch")
def empty_batch_not_refused(patcher: Patcher) -> None:
    """A batch without rows is let through."""

    def make(read: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda td, tokens: td[ENV_OBS] if td[ENV_OBS].numel() == 0 else read(td, tokens)

    patcher.wrap(pytorch_agent_mixin, "read_observations", make)


@_in_training(origin=REFUSED, component="one token too few")
def token_count_not_refused(patcher: Patcher) -> None:
    """Whatever number of tokens an observation has is taken for right."""

    def make(read: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda td, _: read(td, td[ENV_OBS].shape[-2])

    patcher.wrap(pytorch_agent_mixin, "read_observations", make)


@CATALOGUE.fault(
    origin="seed document: experience spec without policy fields",
    check="fields",
    component="experience spec",
    phase="build",
)
def experience_spec_without_memory(patcher: Patcher) -> None:
    """The experience buffer is not asked to keep the memory."""

    def make(original: Callable[[Any], dict[str, FieldSpec]]) -> Callable[[Any], dict[str, FieldSpec]]:
        return lambda self: {key: spec for key, spec in original(self).items() if key not in (MEMORY_H, MEMORY_C)}

    patcher.wrap(PyTorchAgentMixin, "get_agent_experience_spec", make)

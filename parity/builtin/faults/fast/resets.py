"""Faults inside the recurrent core's pass: which states are zeroed when, and what is batch and what is time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import DONES, TRUNCATEDS
from parity.agents.metta_agent import MettaAgent
from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.lstm_wrapper import RecurrentCore
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

State = tuple[Tensor, Tensor]
Core = Callable[[Any, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

SEED = "seed document: "
TRACKERS = "other projects' trackers: "

_in_training = partial(CATALOGUE.fault, check="forward", component="_core_", phase="forward")


def _core(patcher: Patcher, run: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Run the core as ``run(forward, rows, h, c, resets)``, its own forward given bound."""

    def make(original: Core) -> Core:
        return lambda self, *given: run(partial(original, self), *given)

    patcher.wrap(RecurrentCore, "forward", make)


def _zeroing(patcher: Patcher, zero: Callable[[Tensor, Tensor, Tensor], State]) -> None:
    """Before each step put ``zero(h, c, opens)`` in place of the state, ``opens [1, B, 1]`` being its resets."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        outputs, quiet = [], torch.zeros_like(resets[:, :1])
        for step, row in enumerate(rows.view(*resets.shape, -1).unbind(1)):
            h, c = zero(h, c, resets[:, step].view(1, -1, 1))
            output, h, c = forward(row, h, c, quiet)
            outputs.append(output)
        return torch.stack(outputs, dim=1).flatten(0, 1), h, c

    _core(patcher, run)


def _without_flags(patcher: Patcher, key: str) -> None:
    def make(read: Callable[[TensorDictBase], Tensor]) -> Callable[[TensorDictBase], Tensor]:
        return lambda td: read(td.exclude(key))

    patcher.wrap(pytorch_agent_mixin, "read_resets", make)


# Resets


@_in_training(origin=SEED + "state not reset on done")
def not_reset_on_done(patcher: Patcher) -> None:
    """A done carries the state on into the next episode."""
    _without_flags(patcher, DONES)


@_in_training(origin=SEED + "state not reset on truncated")
def not_reset_on_truncated(patcher: Patcher) -> None:
    """A truncation carries the state on into the next episode."""
    _without_flags(patcher, TRUNCATEDS)


@_in_training(origin=SEED + "reset applied to all rows")
def all_rows_reset(patcher: Patcher) -> None:
    """One row's reset zeroes the state of every row."""
    _zeroing(patcher, lambda h, c, opens: (h * ~opens.any(), c * ~opens.any()))


@_in_training(origin=TRACKERS + "state carried across episodes")
def only_the_top_layer_reset(patcher: Patcher) -> None:
    """The lower layer's state outlives the episode."""

    def zero(h: Tensor, c: Tensor, opens: Tensor) -> State:
        return torch.cat([h[:-1], h[-1:] * ~opens]), torch.cat([c[:-1], c[-1:] * ~opens])

    _zeroing(patcher, zero)


@_in_training(origin=TRACKERS + "state carried across episodes")
def cell_state_not_reset(patcher: Patcher) -> None:
    """A reset zeroes h and leaves c."""
    _zeroing(patcher, lambda h, c, opens: (h * ~opens, c))


@_in_training(origin=TRACKERS + "done shifted by one step")
def resets_one_step_late(patcher: Patcher) -> None:
    """A step's flag acts at the next step of the same call."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        return forward(rows, h, c, torch.cat([torch.zeros_like(resets[:, :1]), resets[:, :-1]], dim=1))

    _core(patcher, run)


@_in_training(origin=TRACKERS + "done shifted by one step")
def zeroed_after_the_step(patcher: Patcher) -> None:
    """The state is zeroed after the step that opens an episode, as if its flag closed one."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        late = torch.cat([torch.zeros_like(resets[:, :1]), resets[:, :-1]], dim=1)
        output, h, c = forward(rows, h, c, late)
        return output, h * ~resets[:, -1].view(1, -1, 1), c * ~resets[:, -1].view(1, -1, 1)

    _core(patcher, run)


@_in_training(origin="the agents' contract: resets inside a sequence")
def resets_inside_a_sequence_ignored(patcher: Patcher) -> None:
    """Only a sequence's first flag is looked at."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        return forward(rows, h, c, torch.cat([resets[:, :1], torch.zeros_like(resets[:, 1:])], dim=1))

    _core(patcher, run)


# Batch and time


@_in_training(origin=SEED + "hidden reshaped (t b) instead of (b t)")
def hidden_time_first(patcher: Patcher) -> None:
    """The core's output rows come out as t*B + b."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        output, h, c = forward(rows, h, c, resets)
        return output.view(*resets.shape, -1).transpose(0, 1).flatten(0, 1), h, c

    _core(patcher, run)


@_in_training(origin=TRACKERS + "batch and time swapped in the LSTM")
def rows_read_time_first(patcher: Patcher) -> None:
    """The core's input rows are read as t*B + b."""

    def run(forward: Callable[..., Any], rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> Any:
        batch, steps = resets.shape
        return forward(rows.view(steps, batch, -1).transpose(0, 1).flatten(0, 1), h, c, resets)

    _core(patcher, run)


@CATALOGUE.fault(
    origin=TRACKERS + "batch and time swapped in the LSTM",
    check="fields",
    component="_core_",
    phase="rollout",
    raises=True,
)
def batch_first_forgotten(patcher: Patcher) -> None:
    """The LSTM takes [B, T] as [T, B]."""

    def change(agent: MettaAgent) -> None:
        agent.policy.get_submodule("core.lstm").batch_first = False  # type: ignore[assignment]

    patcher.built("candidate", change)

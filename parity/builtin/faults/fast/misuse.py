"""Misuse that is let through, and a harmless rewrite of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.errors import ObservationError
from parity.agents.interface import DONES, ENV_ID_START
from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.actions import ActionTable
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.builtin.faults.fast.fields import REFUSED
from parity.faults.plant import Patcher

Read = Callable[..., Any]

_let_through = partial(CATALOGUE.fault, origin=REFUSED, check="fields", phase="forward")


@_let_through(component="dones of another shape")
def dones_of_another_shape_passed_over(patcher: Patcher) -> None:
    """Episode flags that do not fit the batch count as none."""

    def make(read: Read) -> Read:
        def read_resets(td: TensorDictBase) -> Tensor:
            flags = td.get(DONES, None)
            if flags is not None and flags.shape != td.batch_size:
                return torch.zeros(td.batch_size, dtype=torch.bool)
            return read(td)

        return read_resets

    patcher.wrap(pytorch_agent_mixin, "read_resets", make)


@_let_through(component="environment ids of dtype float32")
def float_environment_ids_rounded(patcher: Patcher) -> None:
    """Environment ids of any dtype are taken for integers."""

    def make(read: Read) -> Read:
        return lambda td: int(td[ENV_ID_START].flatten()[0]) if ENV_ID_START in td.keys() else read(td)  # noqa: SIM118

    patcher.wrap(pytorch_agent_mixin, "read_env_id", make)


@_let_through(component="an action of a negative type")
def negative_actions_raised_to_zero(patcher: Patcher) -> None:
    """A negative type or argument becomes 0."""

    def make(to_logit: Read) -> Read:
        return lambda self, action: to_logit(self, action.clamp(min=0))

    patcher.wrap(ActionTable, "to_logit", make)


@_let_through(component="memory_h without memory_c")
def lone_memory_dropped(patcher: Patcher) -> None:
    """One half of a state without the other counts as none."""

    def make(supplied: Read) -> Read:
        def supplied_state(self: LSTMWrapper, h: Tensor | None, c: Tensor | None, *sizes: int) -> Any:
            return supplied(self, None, None, *sizes) if h is None or c is None else supplied(self, h, c, *sizes)

        return supplied_state

    patcher.wrap(LSTMWrapper, "supplied_state", make)


@_let_through(component="a state stored for one row more")
def stored_state_cut_to_the_batch(patcher: Patcher) -> None:
    """Rows of a stored state that a smaller batch has no use for are dropped."""

    def make(stored: Read) -> Read:
        def stored_state(self: LSTMWrapper, env_id: int, batch: int) -> Any:
            if env_id in self._states:
                self._states[env_id] = tuple(part[:, :batch] for part in self._states[env_id])  # type: ignore[assignment]
            return stored(self, env_id, batch)

        return stored_state

    patcher.wrap(LSTMWrapper, "stored_state", make)


@CATALOGUE.control(why="what a refusal says is not part of the contract, its type is")
def refusals_worded_otherwise(patcher: Patcher) -> None:
    """Observations are refused in other words."""

    def make(read: Read) -> Read:
        def read_observations(td: TensorDictBase, num_tokens: int) -> Tensor:
            try:
                return read(td, num_tokens)
            except ObservationError as error:
                raise ObservationError(f"these observations do not fit ({error})") from error

        return read_observations

    patcher.wrap(pytorch_agent_mixin, "read_observations", make)

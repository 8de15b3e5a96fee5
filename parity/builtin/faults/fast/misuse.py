"""Misuse that is let through, and a harmless rewrite of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.errors import ActionError, MemoryStateError, ObservationError
from parity.agents.interface import DONES, ENV_ID_START, Feature
from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.actions import ActionTable
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.features import FeatureTable
from parity.agents.pytorch.layers import ActionEmbedding
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


@CATALOGUE.fault(origin=REFUSED, check="actions", component="an action named twice", phase="build")
def repeated_action_names_accepted(patcher: Patcher) -> None:
    """Two actions of one name share their embedding rows."""

    def full_names(names: Sequence[str], max_args: Sequence[int]) -> list[str]:
        if len(names) != len(max_args) or not names or min(max_args) < 0:
            raise ActionError("names and maxima do not fit together")
        return [f"{name}_{arg}" for name, largest in zip(names, max_args, strict=True) for arg in range(largest + 1)]

    patcher.attribute(ActionTable, "full_names", staticmethod(full_names))


@CATALOGUE.fault(origin=REFUSED, check="actions", component="rows with a gap", phase="build")
def rows_restored_with_gaps(patcher: Patcher) -> None:
    """Whatever rows a file holds are adopted, if only no two names share one."""

    def make(restore: Read) -> Read:
        def adopt(self: ActionEmbedding, rows: dict[str, int]) -> None:
            if len(set(rows.values())) == len(rows) <= len(self.weight):
                self.row_of_name = dict(rows)
            else:
                restore(self, rows)

        return adopt

    patcher.wrap(ActionEmbedding, "restore", make)


@CATALOGUE.fault(origin=REFUSED, check="features", component="a normalization of 0", phase="build")
def zero_normalization_taken_for_one(patcher: Patcher) -> None:
    """A feature without a scale is not divided."""

    def make(activate: Read) -> Read:
        def mend(self: FeatureTable, features: dict[str, Feature], *, learn: bool) -> Any:
            mended = {name: Feature(f.id, f.normalization or 1.0) for name, f in features.items()}
            return activate(self, mended, learn=learn)

        return mend

    patcher.wrap(FeatureTable, "activate", make)


@CATALOGUE.fault(origin=REFUSED, check="memory", component="h and c of different batches", phase="rollout")
def halves_of_a_state_not_compared(patcher: Patcher) -> None:
    """Each half of a state is looked at alone when it is put back."""

    def set_memory(self: LSTMWrapper, memory: dict[int, tuple[Tensor, Tensor]]) -> None:
        for state in (part for pair in memory.values() for part in pair):
            if state.dim() != 3 or state.shape[::2] != self._outer_shape:
                raise MemoryStateError(f"a state has shape {list(state.shape)}")
        self._states = {env_id: (self._copy(h), self._copy(c)) for env_id, (h, c) in memory.items()}

    patcher.attribute(LSTMWrapper, "set_memory", set_memory)


@CATALOGUE.fault(origin=REFUSED, check="memory", component="h and c of different batches", phase="rollout")
def states_adopted_one_by_one(patcher: Patcher) -> None:
    """A state that does not fit is refused after those before it were put in place."""

    def make(set_memory: Read) -> Read:
        def one_by_one(self: LSTMWrapper, memory: dict[int, tuple[Tensor, Tensor]]) -> None:
            if len(memory) == 1 or all(h.shape == c.shape for h, c in memory.values()):
                set_memory(self, memory)
                return
            self._states = {}
            for env_id, (h, c) in memory.items():
                if h.shape != c.shape:
                    raise MemoryStateError(f"h and c of {env_id} differ")
                self._states[env_id] = (self._copy(h), self._copy(c))

        return one_by_one

    patcher.wrap(LSTMWrapper, "set_memory", make)


@CATALOGUE.fault(origin=REFUSED, check="weight_metrics", component="delta 1.0", phase="metrics")
def delta_of_one_accepted(patcher: Patcher) -> None:
    """An effective rank that may leave out everything is computed."""

    def make(compute: Read) -> Read:
        return lambda self, delta=0.01: compute(self, delta if delta != 1.0 else 0.5)

    patcher.wrap(Fast, "compute_weight_metrics", make)

"""Faults of recurrent state: where training starts from, and how states are stored, kept apart and handed out.

Most are caught by the forward check, whose rollouts carry state; the memory check is first where only interleaved
slices, or the handling of stored states, tell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from parity.agents.errors import MemoryStateError
from parity.agents.interface import Memory
from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

State = tuple[Tensor, Tensor]

SEED = "seed document: "
CONTRACT = "the agents' contract: memory"

_in_training = partial(CATALOGUE.fault, check="forward", component="_core_", phase="forward")
_in_rollout = partial(CATALOGUE.fault, check="forward", component="_core_", phase="rollout")
_in_handling = partial(CATALOGUE.fault, check="memory", component="memory", phase="rollout")


def _storing(patcher: Patcher, change: Callable[[Tensor, Tensor], State]) -> None:
    """Store ``change(h, c)``."""

    def make(store: Callable[..., None]) -> Callable[..., None]:
        return lambda self, env_id, h, c: store(self, env_id, *change(h, c))

    patcher.wrap(LSTMWrapper, "store_state", make)


# The state that training starts from


@_in_training(origin=CONTRACT + "_h starts training")
def supplied_state_ignored(patcher: Patcher) -> None:
    """Training starts from zeros whatever memory_h and memory_c hold."""
    patcher.attribute(LSTMWrapper, "supplied_state", lambda self, h, c, batch, steps: self._zeros(batch))


@_in_training(origin=CONTRACT + "_h is read at t = 0")
def supplied_state_of_the_last_step(patcher: Patcher) -> None:
    """Training starts from what memory_h and memory_c hold at the last step."""

    def make(read: Callable[..., State]) -> Callable[..., State]:
        return lambda self, h, c, *sizes: read(self, h.flip(1), c.flip(1), *sizes)

    patcher.wrap(LSTMWrapper, "supplied_state", make)


@_in_rollout(origin=CONTRACT + " of rollouts is not training's")
def training_overwrites_stored_state(patcher: Patcher) -> None:
    """The state that training starts from is kept for the next rollout."""

    def make(read: Callable[..., State]) -> Callable[..., State]:
        def supplied_state(self: LSTMWrapper, *given: Any) -> State:
            h, c = read(self, *given)
            self.store_state(0, h, c)
            return h, c

        return supplied_state

    patcher.wrap(LSTMWrapper, "supplied_state", make)


# Stored states


@_in_handling(origin=SEED + "state not detached")
def state_not_detached(patcher: Patcher) -> None:
    """Stored states keep the graph of the steps that made them."""

    def store_state(self: LSTMWrapper, env_id: int, h: Tensor, c: Tensor) -> None:
        self._states[env_id] = (h, c)

    patcher.attribute(LSTMWrapper, "store_state", store_state)


@_in_rollout(origin=CONTRACT + " is (h, c)")
def h_and_c_swapped(patcher: Patcher) -> None:
    """Stored states are (c, h)."""
    _storing(patcher, lambda h, c: (c, h))


@_in_rollout(origin=CONTRACT + " is [layers, B, hidden]")
def layers_of_h_reversed(patcher: Patcher) -> None:
    """Layers of h are stored in reverse."""
    _storing(patcher, lambda h, c: (h.flip(0), c))


@_in_rollout(origin="other projects' trackers: a narrower float where a wider one is meant")
def state_kept_in_float32(patcher: Patcher) -> None:
    """Stored states are rounded to float32."""
    _storing(patcher, lambda h, c: (h.float(), c.float()))


@CATALOGUE.fault(
    origin=SEED + "state shared across training_env_id_start", check="memory", component="_core_", phase="rollout"
)
def state_shared_across_slices(patcher: Patcher) -> None:
    """Every environment slice uses the state of slice 0."""
    patcher.attribute(pytorch_agent_mixin, "read_env_id", lambda td: 0)


@CATALOGUE.fault(origin=SEED + "reset_memory a no-op", check="forward", component="_core_", phase="sequence")
def reset_memory_does_nothing(patcher: Patcher) -> None:
    """Forgetting all states keeps them."""
    patcher.attribute(LSTMWrapper, "reset_memory", lambda self: None)


@_in_handling(origin=CONTRACT + " of one slice is forgotten alone")
def reset_env_memory_clears_all(patcher: Patcher) -> None:
    """Forgetting one slice forgets all."""
    patcher.attribute(LSTMWrapper, "reset_env_memory", lambda self, env_id: self._states.clear())


@_in_handling(origin=CONTRACT + " handed out is a copy")
def get_memory_aliases(patcher: Patcher) -> None:
    """Stored tensors themselves are handed out."""
    patcher.attribute(LSTMWrapper, "get_memory", lambda self: dict(self._states))


@_in_handling(origin=CONTRACT + " taken in is copied")
def set_memory_aliases(patcher: Patcher) -> None:
    """The caller's tensors themselves are stored."""

    def set_memory(self: LSTMWrapper, memory: Memory) -> None:
        self._states = dict(memory)

    patcher.attribute(LSTMWrapper, "set_memory", set_memory)


@_in_handling(origin=CONTRACT + " that is set replaces all")
def set_memory_merges(patcher: Patcher) -> None:
    """Slices that the memory handed in does not name keep their states."""

    def make(replace: Callable[..., None]) -> Callable[..., None]:
        def set_memory(self: LSTMWrapper, memory: Memory) -> None:
            before = self._states
            replace(self, memory)
            self._states = {**before, **self._states}

        return set_memory

    patcher.wrap(LSTMWrapper, "set_memory", make)


@_in_handling(origin=CONTRACT + " is of the policy's dtype")
def set_memory_keeps_the_dtype(patcher: Patcher) -> None:
    """States handed in stay in the dtype that they come in."""

    def set_memory(self: LSTMWrapper, memory: Memory) -> None:
        self._states = {env_id: (h.detach().clone(), c.detach().clone()) for env_id, (h, c) in memory.items()}

    patcher.attribute(LSTMWrapper, "set_memory", set_memory)


@_in_handling(origin=CONTRACT + " of another batch size is refused")
def another_batch_size_starts_from_zeros(patcher: Patcher) -> None:
    """A stored state that does not fit the batch is silently dropped."""

    def make(load: Callable[..., State]) -> Callable[..., State]:
        def stored_state(self: LSTMWrapper, env_id: int, batch: int) -> State:
            try:
                return load(self, env_id, batch)
            except MemoryStateError:
                return self._zeros(batch)

        return stored_state

    patcher.wrap(LSTMWrapper, "stored_state", make)

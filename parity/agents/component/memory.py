"""The recurrent states that a policy keeps between calls, one per ``training_env_id_start``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.agents.errors import MemoryStateError
from parity.agents.interface import Memory

State = tuple[Tensor, Tensor]


class StateStore:
    """Detached states (h, c), each ``[layers, B, hidden]``, by environment id."""

    def __init__(self, layers: int, hidden: int) -> None:
        self.layers, self.hidden = layers, hidden
        self.states: Memory = {}

    def load(self, env_id: int, batch: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the state under ``env_id``, zeros if there is none.

        Raises:
            MemoryStateError: the stored state is of another batch size.
        """
        if env_id not in self.states:
            shape = (self.layers, batch, self.hidden)
            return torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
        h, c = self.states[env_id]
        if h.shape[1] != batch:
            raise MemoryStateError(
                f"the state stored under training_env_id_start {env_id} has batch size {h.shape[1]}, but this call has "
                f"{batch}; keep the batch size, use another id, or call reset_env_memory({env_id})"
            )
        return h.to(device, dtype), c.to(device, dtype)

    def save(self, env_id: int, h: Tensor, c: Tensor) -> None:
        """Store a state, detached."""
        self.states[env_id] = (h.detach(), c.detach())

    def snapshot(self) -> Memory:
        """Return copies of all states."""
        return {env_id: (h.clone(), c.clone()) for env_id, (h, c) in self.states.items()}

    def replace(self, memory: Mapping[int, State], *, dtype: torch.dtype, device: torch.device) -> None:
        """Replace all states by detached copies.

        Raises:
            MemoryStateError: a shape does not fit the network, or h and c differ in batch size.
        """
        for env_id, (h, c) in memory.items():
            batch = h.shape[1] if h.ndim == 3 else -1
            if not h.shape == c.shape == (self.layers, batch, self.hidden):
                raise MemoryStateError(
                    f"memory of training_env_id_start {env_id} has h {list(h.shape)} and c {list(c.shape)}; this "
                    f"network takes both as [{self.layers}, batch, {self.hidden}], of one batch size"
                )
        self.states = {
            env_id: (h.detach().to(device, dtype, copy=True), c.detach().to(device, dtype, copy=True))
            for env_id, (h, c) in memory.items()
        }

    def forget(self, env_id: int | None = None) -> None:
        """Forget the state under one id, or all of them."""
        if env_id is None:
            self.states.clear()
        else:
            self.states.pop(env_id, None)

"""The recurrent half of a candidate: the LSTM core and the memory kept per ``training_env_id_start``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from parity.agents.errors import MemoryStateError
from parity.agents.interface import MEMORY_C, MEMORY_H, Memory, Policy
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.weights import draw_orthogonal


class RecurrentCore(nn.Module):
    """An LSTM over ``[B*T, F]`` rows (row = b*T + t) that zeroes a row's state where an episode opens."""

    def __init__(self, settings: Component, input_size: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        hidden_size, num_layers = settings.sizes["hidden_size"], settings.sizes["num_layers"]
        # From meta, so that torch's own initialisation draws nothing from the global generator.
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True, dtype=dtype, device="meta")
        for role, parameter in list(self.lstm.named_parameters()):
            if role.startswith("bias"):
                drawn = torch.ones(parameter.shape)
            else:
                drawn = draw_orthogonal(parameter.shape, gain=1.0, seed=seed, component=settings.name, role=role)
            setattr(self.lstm, role, nn.Parameter(drawn.to(dtype)))

    # Dynamo cannot trace nn.LSTM. Only this method is kept from it, so that encoder and heads still compile.
    @torch._dynamo.disable
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the signature
        self, rows: Tensor, h: Tensor, c: Tensor, resets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run all steps.

        Args:
            rows: ``[B*T, F]``.
            h: ``[layers, B, hidden]``, the state before the first step; likewise ``c``.
            c: see ``h``.
            resets: bool ``[B, T]``; where true, the row's state is zeroed before that step.

        Returns:
            Output rows ``[B*T, hidden]`` and the state after the last step.
        """
        batch, steps = resets.shape
        sequence = rows.reshape(batch, steps, -1)
        hits = resets.any(0).tolist()
        starts = [0, *(t for t in range(1, steps) if hits[t])]
        outputs: list[Tensor] = []
        for start, stop in zip(starts, [*starts[1:], steps], strict=True):
            if hits[start]:
                opens = resets[:, start].view(1, batch, 1)
                h, c = h.masked_fill(opens, 0.0), c.masked_fill(opens, 0.0)
            output, (h, c) = self.lstm(sequence[:, start:stop], (h, c))
            outputs.append(output)
        hidden = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return hidden.reshape(batch * steps, -1), h, c


class LSTMWrapper(Policy):
    """A policy around ``self.core``, with one detached state (h, c) per ``training_env_id_start``."""

    def __init__(self) -> None:
        super().__init__()
        self._states: Memory = {}

    def build_core(self, settings: Component, input_size: int, *, seed: int, dtype: torch.dtype) -> None:
        """Build the core.

        Args:
            settings: the LSTM component.
            input_size: F, the features of an encoded row.
            seed: the run's seed.
            dtype: the parameters' floating dtype.
        """
        self.core = RecurrentCore(settings, input_size, seed=seed, dtype=dtype)
        self.num_layers, self.hidden_size = settings.sizes["num_layers"], settings.sizes["hidden_size"]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.core.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating dtype."""
        return next(self.core.parameters()).dtype

    def reset_memory(self) -> None:
        """Forget every stored state."""
        self._states.clear()

    def reset_env_memory(self, env_id: int) -> None:
        """Forget the state stored under ``env_id``, if any."""
        self._states.pop(env_id, None)

    def get_memory(self) -> Memory:
        """Return copies of all stored states, each ``[layers, B, hidden]``."""
        return {env_id: (h.clone(), c.clone()) for env_id, (h, c) in self._states.items()}

    def set_memory(self, memory: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Replace all stored states by detached copies in the policy's dtype and device.

        Raises:
            MemoryStateError: a state is not a pair of ``[layers, B, hidden]`` tensors; nothing changes then.
        """
        copies: Memory = {}
        for env_id, (h, c) in memory.items():
            for name, state in (("h", h), ("c", c)):
                if state.dim() != 3 or state.shape != h.shape or state.shape[::2] != self._outer_shape:
                    raise MemoryStateError(
                        f"{name} of training_env_id_start {env_id} has shape {list(state.shape)} (h: "
                        f"{list(h.shape)}); give [{self.num_layers}, batch, {self.hidden_size}] for both"
                    )
            copies[env_id] = (self._copy(h), self._copy(c))
        self._states = copies

    def stored_state(self, env_id: int, batch: int) -> tuple[Tensor, Tensor]:
        """The state kept under ``env_id``, or zeros; both ``[layers, batch, hidden]``.

        Raises:
            MemoryStateError: the state was stored for another batch size.
        """
        if env_id not in self._states:
            return self._zeros(batch)
        h, c = self._states[env_id]
        if h.shape[1] != batch:
            raise MemoryStateError(
                f"the state stored under training_env_id_start {env_id} is for batch size {h.shape[1]}, the batch has "
                f"{batch}; call reset_env_memory({env_id}) or give each batch its own training_env_id_start"
            )
        return self._copy(h), self._copy(c)  # what inference mode stored cannot enter a graph, its copy can

    def store_state(self, env_id: int, h: Tensor, c: Tensor) -> None:
        """Keep (h, c), detached, under ``env_id``; the tensors must not be written to afterwards."""
        self._states[env_id] = (h.detach().to(self.dtype), c.detach().to(self.dtype))

    def supplied_state(self, h: Tensor | None, c: Tensor | None, batch: int, steps: int) -> tuple[Tensor, Tensor]:
        """The state that a training batch brings along, as ``[layers, batch, hidden]``; zeros without one.

        Args:
            h: ``memory_h`` ``[batch, steps, layers, hidden]``, of which only step 0 is read; likewise ``c``.
            c: see ``h``.
            batch: rows in the batch.
            steps: time steps in the batch.

        Raises:
            MemoryStateError: only one of the two is there, or a shape differs.
        """
        if h is None and c is None:
            return self._zeros(batch)
        if h is None or c is None:
            there, missing = (MEMORY_C, MEMORY_H) if h is None else (MEMORY_H, MEMORY_C)
            raise MemoryStateError(f"the TensorDict has {there!r} but no {missing!r}; give both or neither")
        expected = (batch, steps, *self._outer_shape)
        for key, value in ((MEMORY_H, h), (MEMORY_C, c)):
            if value.shape != expected:
                raise MemoryStateError(
                    f"{key!r} has shape {list(value.shape)}; give [batch, time, layers, hidden] = {list(expected)}"
                )
        first_h, first_c = (state[:, 0].transpose(0, 1).to(self.device, self.dtype).contiguous() for state in (h, c))
        return first_h, first_c

    @property
    def _outer_shape(self) -> tuple[int, int]:
        return (self.num_layers, self.hidden_size)

    def _copy(self, state: Tensor) -> Tensor:
        return state.detach().to(self.device, self.dtype, copy=True)

    def _zeros(self, batch: int) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(self.num_layers, batch, self.hidden_size, device=self.device, dtype=self.dtype)
        return zeros, zeros

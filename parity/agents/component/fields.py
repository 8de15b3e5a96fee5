"""Reading and checking what a call is given in its TensorDict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.component.memory import State
from parity.agents.errors import ActionError, MemoryStateError, ObservationError
from parity.agents.interface import DONES, ENV_ID_START, ENV_OBS, MEMORY_C, MEMORY_H, TRUNCATEDS


@dataclass(frozen=True)
class Observations:
    """One call's observations as rows, row = b * steps + t.

    Attributes:
        tokens: ``[B * T, M, 3]`` uint8.
        resets: bool ``[B, T]``, true where an episode opens.
        batch: B.
        steps: T, 1 when the call has no time axis.
        shape: the TensorDict's batch size, ``[B]`` or ``[B, T]``.
    """

    tokens: Tensor
    resets: Tensor
    batch: int
    steps: int
    shape: torch.Size


def read_observations(td: TensorDictBase, num_tokens: int, device: torch.device) -> Observations:
    """Read ``env_obs``, ``dones`` and ``truncateds``.

    Raises:
        ObservationError: one of them is missing or malformed, or does not match the batch size.
    """
    obs = td.get(ENV_OBS, None)
    if not isinstance(obs, Tensor):
        raise ObservationError(f"the TensorDict has no {ENV_OBS!r}; give uint8 [B, {num_tokens}, 3] or [B, T, ...]")
    shape = td.batch_size
    wanted = [*shape, num_tokens, 3]
    if len(shape) not in (1, 2) or list(obs.shape) != wanted:
        raise ObservationError(
            f"{ENV_OBS} has shape {list(obs.shape)} in a TensorDict of batch size {list(shape)}; give "
            f"[B, {num_tokens}, 3] in [B], or [B, T, {num_tokens}, 3] in [B, T], for {num_tokens} tokens"
        )
    if 0 in shape:
        raise ObservationError(f"{ENV_OBS} has shape {list(obs.shape)}: no row at all; give at least one row and step")
    if obs.dtype != torch.uint8:
        raise ObservationError(f"{ENV_OBS} has dtype {obs.dtype} (shape {list(obs.shape)}); give torch.uint8")
    batch, steps = shape[0], (shape[1] if len(shape) == 2 else 1)
    resets = torch.zeros(shape, dtype=torch.bool, device=device)
    for key in (DONES, TRUNCATEDS):
        flags = td.get(key, None)
        if flags is None:
            continue
        if not isinstance(flags, Tensor) or flags.shape != shape:
            given = list(flags.shape) if isinstance(flags, Tensor) else type(flags).__name__
            raise ObservationError(f"{key} has shape {given}; give the batch size, {list(shape)}")
        resets = resets | (flags.to(device) != 0)
    tokens = obs.to(device).reshape(batch * steps, num_tokens, 3)
    return Observations(tokens, resets.view(batch, steps), batch, steps, shape)


def read_env_id(td: TensorDictBase) -> int:
    """Return the first element of ``training_env_id_start``, 0 when it is absent.

    Raises:
        ObservationError: it is not an integer tensor with an element.
    """
    value = td.get(ENV_ID_START, None)
    if value is None:
        return 0
    is_number = isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool
    if not is_number or not value.numel():
        given = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ObservationError(f"{ENV_ID_START} is {given}; give an integer tensor with at least one element")
    return int(value.flatten()[0])


def read_state(
    td: TensorDictBase, layers: int, hidden: int, *, dtype: torch.dtype, device: torch.device
) -> State | None:
    """Return the segments' first state (h, c), each ``[layers, B, hidden]``, or None when the TensorDict has none.

    Raises:
        MemoryStateError: one of the two is missing, or a shape does not fit.
    """
    given = {key: td.get(key, None) for key in (MEMORY_H, MEMORY_C)}
    if all(state is None for state in given.values()):
        return None
    wanted = [*td.batch_size, layers, hidden]
    for key, state in given.items():
        if not isinstance(state, Tensor) or list(state.shape) != wanted:
            problem = f"has shape {list(state.shape)}" if isinstance(state, Tensor) else "is missing"
            raise MemoryStateError(f"{key} {problem}; give both {MEMORY_H} and {MEMORY_C} as {wanted}, or neither")
    h, c = (state[:, 0].transpose(0, 1).to(device, dtype).contiguous() for state in given.values())
    return h, c


def check_training_action(action: Tensor, shape: torch.Size) -> None:
    """Check that an action to evaluate fits a batch size ``[B, T]``; its numbers are checked where it is converted.

    Raises:
        ActionError: the TensorDict has no time axis, or the action is not ``[B, T, 2]``.
    """
    if len(shape) != 2 or list(action.shape) != [*shape, 2]:
        raise ActionError(
            f"action has shape {list(action.shape)} and the TensorDict batch size {list(shape)}; to evaluate actions "
            "give a TensorDict of batch size [B, T] and an action [B, T, 2]"
        )

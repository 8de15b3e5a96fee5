"""What a policy reads from its TensorDict, checked: every error names the key and both shapes."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.errors import ActionError, ObservationError
from parity.agents.interface import DONES, ENV_ID_START, ENV_OBS, TRUNCATEDS
from parity.agents.pytorch.actions import is_integer


def read_observations(td: TensorDictBase, num_tokens: int) -> Tensor:
    """``env_obs``: uint8 ``[B, M, 3]`` or ``[B, T, M, 3]`` with M = ``num_tokens``.

    Raises:
        ObservationError: the key is missing, dtype or shape is another, the batch is empty, or the TensorDict's batch
            size is not ``[B]`` or ``[B, T]`` accordingly.
    """
    observations = td.get(ENV_OBS, None)
    if not isinstance(observations, Tensor):
        raise ObservationError(f"the TensorDict has no tensor {ENV_OBS!r} (it has {sorted(map(str, td.keys()))})")
    if observations.dtype != torch.uint8:
        raise ObservationError(f"{ENV_OBS!r} is {observations.dtype}; give torch.uint8 tokens")
    shape = observations.shape
    if len(shape) not in (3, 4) or shape[-2:] != (num_tokens, 3) or 0 in shape:
        raise ObservationError(
            f"{ENV_OBS!r} has shape {list(shape)}; give [B, {num_tokens}, 3] or [B, T, {num_tokens}, 3], neither empty"
        )
    if td.batch_size != shape[:-2]:
        raise ObservationError(
            f"the TensorDict's batch size is {list(td.batch_size)} but {ENV_OBS!r} has shape {list(shape)}; "
            f"make the batch size {list(shape[:-2])}"
        )
    return observations


def read_resets(td: TensorDictBase) -> Tensor:
    """Bool, shaped like the batch: where ``dones`` or ``truncateds`` says that an episode opens.

    Raises:
        ObservationError: one of the two has another shape.
    """
    resets: Tensor | None = None
    for key in (DONES, TRUNCATEDS):
        flags = td.get(key, None)
        if flags is None:
            continue
        if flags.shape != td.batch_size:
            raise ObservationError(
                f"{key!r} has shape {list(flags.shape)}; give the TensorDict's batch size {list(td.batch_size)}"
            )
        hits = flags != 0
        resets = hits if resets is None else resets | hits
    if resets is None:
        return torch.zeros(td.batch_size, dtype=torch.bool, device=td.get(ENV_OBS).device)
    return resets


def read_env_id(td: TensorDictBase) -> int:
    """The first ``training_env_id_start``, 0 when absent.

    Raises:
        ObservationError: it is not a tensor of integers.
    """
    ids = td.get(ENV_ID_START, None)
    if ids is None:
        return 0
    if not is_integer(ids) or ids.numel() == 0:
        raise ObservationError(f"{ENV_ID_START!r} is {ids.dtype} of shape {list(ids.shape)}; give integers")
    return int(ids.flatten()[0])


def check_training_action(action: Tensor, observations: Tensor) -> None:
    """Refuse an action that does not go with ``observations [B, T, M, 3]``.

    Raises:
        ActionError: the observations have no time axis, or the action is not integers ``[B, T, 2]``.
    """
    if observations.dim() != 4:
        raise ActionError(
            f"an action of shape {list(action.shape)} was given with {ENV_OBS!r} of shape {list(observations.shape)}; "
            "training needs a [B, T] TensorDict, inference takes no action"
        )
    expected = (*observations.shape[:2], 2)
    if not is_integer(action) or action.shape != expected:
        raise ActionError(
            f"action is {action.dtype} of shape {list(action.shape)}; give integers of shape {list(expected)}"
        )

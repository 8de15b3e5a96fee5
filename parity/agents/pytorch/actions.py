"""The action space: which (type, argument) pair each logit stands for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parity.agents.errors import ActionError

_INTEGERS = frozenset(
    {torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64}
)


def is_integer(tensor: Tensor) -> bool:
    """Whether the tensor's dtype counts as whole numbers (bool does not)."""
    return tensor.dtype in _INTEGERS


class ActionTable(nn.Module):
    """Both directions between (type, argument) and logit index.

    Type i owns ``max_args[i] + 1`` consecutive logits. Empty until ``activate``; a module only so that its tables
    follow the policy's device.
    """

    first_logit: Tensor
    max_arg: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("first_logit", "max_arg"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer("pairs", torch.empty(0, 2, dtype=torch.int32), persistent=False)

    @property
    def is_active(self) -> bool:
        """Whether an action space was adopted."""
        return len(self.pairs) > 0

    @staticmethod
    def full_names(names: Sequence[str], max_args: Sequence[int]) -> list[str]:
        """``<action>_<argument>`` of every logit, in logit order.

        Raises:
            ActionError: no action, a repeated name, one list longer than the other, or a negative maximum.
        """
        if not names or len(set(names)) != len(names):
            raise ActionError(f"action names {list(names)} must be non-empty and without repetition")
        if len(names) != len(max_args):
            raise ActionError(f"{len(names)} action names but {len(max_args)} maxima {list(max_args)}; give one each")
        for name, largest in zip(names, max_args, strict=True):
            if largest < 0:
                raise ActionError(f"the largest argument of action {name!r} is {largest}; give a whole number >= 0")
        return [f"{name}_{arg}" for name, largest in zip(names, max_args, strict=True) for arg in range(largest + 1)]

    def activate(self, max_args: Sequence[int]) -> None:
        """Adopt an action space with these inclusive maxima."""
        device = self.pairs.device
        pairs = [(kind, arg) for kind, largest in enumerate(max_args) for arg in range(largest + 1)]
        self.max_arg = torch.tensor(max_args, dtype=torch.int64, device=device)
        counts = self.max_arg + 1
        self.first_logit = counts.cumsum(0) - counts
        self.pairs = torch.tensor(pairs, dtype=torch.int32, device=device)

    def to_logit(self, action: Tensor) -> Tensor:
        """``[..., 2]`` integers -> ``[...]`` int64.

        Raises:
            ActionError: not integers, no last axis of 2, or a pair that the action space does not have.
        """
        if not is_integer(action) or action.shape[-1:] != (2,):
            raise ActionError(
                f"actions are {action.dtype} of shape {list(action.shape)}; give integers of shape [..., 2]"
            )
        wide = action.to(torch.int64)
        kind, arg = wide.unbind(-1)
        safe_kind = kind.clamp(0, len(self.max_arg) - 1)
        illegal = (kind != safe_kind) | (arg < 0) | (arg > self.max_arg[safe_kind])
        if bool(illegal.any()):
            raise ActionError(
                f"action {wide[illegal][0].tolist()} is illegal; the largest argument of each type is "
                f"{self.max_arg.tolist()}"
            )
        return self.first_logit[kind] + arg

    def to_action(self, index: Tensor) -> Tensor:
        """``[...]`` integers -> ``[..., 2]`` int32.

        Raises:
            ActionError: not integers, or an index without a logit.
        """
        if not is_integer(index):
            raise ActionError(f"logit indices are {index.dtype}; give integers")
        wide = index.to(torch.int64)
        illegal = (wide < 0) | (wide >= len(self.pairs))
        if bool(illegal.any()):
            raise ActionError(f"logit index {wide[illegal][0].item()} is illegal; there are {len(self.pairs)} logits")
        return self.pairs[wide]

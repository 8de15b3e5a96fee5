"""Action spaces: (type, argument) <-> logit index, and the embedding row of each full action name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parity.agents.errors import ActionError

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


class ActionTable(nn.Module):
    """The active action space and, over all activations, the embedding row of every full name seen.

    Attributes:
        names: the active action types.
        rows: full name ``<action>_<argument>`` -> row of the embedding table, for good.
    """

    cumulative: Tensor  # int64 [types], cumsum([0] + max_args) without its last entry
    max_args: Tensor  # int64 [types]
    actions: Tensor  # int32 [A, 2], logit index -> (type, argument)

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.names: tuple[str, ...] = ()
        self.rows: dict[str, int] = {}
        # Not persistent: their lengths follow the environment, and activation writes them anew.
        for name in ("cumulative", "max_args", "actions"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64, device="cpu"), persistent=False)

    def activate(self, names: Sequence[str], max_args: Sequence[int]) -> list[int]:
        """Adopt an action space and return the embedding row of each logit.

        Raises:
            ActionError: the space is empty or malformed, or has more new names than the embedding table has free rows;
                the previous activation then stays in force.
        """
        _check(names, max_args)
        rows = dict(self.rows)
        pairs = [(kind, arg) for kind, largest in enumerate(max_args) for arg in range(largest + 1)]
        full_names = [f"{names[kind]}_{arg}" for kind, arg in pairs]
        for full_name in full_names:
            rows.setdefault(full_name, len(rows))
        if len(rows) > self.capacity:
            new = next(full_name for full_name, row in rows.items() if row >= self.capacity)
            raise ActionError(
                f"action {new!r} would need row {rows[new]} of an embedding table with {self.capacity} rows "
                f"({len(self.rows)} held by earlier activations); raise num_embeddings of the action embedding"
            )
        device = self.max_args.device
        self.names, self.rows = tuple(names), rows
        self.max_args = torch.tensor(list(max_args), dtype=torch.int64, device=device)
        self.cumulative = torch.cumsum(torch.tensor([0, *max_args], dtype=torch.int64, device=device), 0)[:-1]
        self.actions = torch.tensor(pairs, dtype=torch.int32, device=device)
        return [rows[full_name] for full_name in full_names]

    def restore(self, rows: Mapping[str, int]) -> None:
        """Adopt the rows of an earlier table.

        Raises:
            ActionError: they are not 0, 1, 2, ... without gaps, or more than the embedding table has.
        """
        if sorted(rows.values()) != list(range(len(rows))) or len(rows) > self.capacity:
            raise ActionError(
                f"action rows {dict(rows)!r} cannot be restored; give each name a row of its own, from 0 without gaps, "
                f"at most {self.capacity} of them"
            )
        self.rows = dict(sorted(rows.items(), key=lambda item: item[1]))

    def to_index(self, action: Tensor) -> Tensor:
        """Convert (type, argument) ``[..., 2]`` to logit indices ``[...]`` int64.

        Raises:
            ActionError: a wrong dtype or shape, or a pair outside the action space.
        """
        self._require_active()
        _require_integer(action, "action")
        if action.ndim < 1 or action.shape[-1] != 2:
            raise ActionError(f"action has shape {list(action.shape)}; its last axis must hold (type, argument)")
        kind, arg = action.to(self.max_args.device, torch.int64).unbind(-1)
        known = (kind >= 0) & (kind < len(self.names))
        safe_kind = torch.where(known, kind, 0)
        legal = known & (arg >= 0) & (arg <= self.max_args[safe_kind])
        if not bool(legal.all()):
            bad_kind, bad_arg = int(kind[~legal][0]), int(arg[~legal][0])
            raise ActionError(f"illegal action (type {bad_kind}, argument {bad_arg}); {self._legal_pairs()}")
        return kind + self.cumulative[kind] + arg

    def to_action(self, index: Tensor) -> Tensor:
        """Convert logit indices ``[...]`` to (type, argument) ``[..., 2]`` int32.

        Raises:
            ActionError: a wrong dtype, or an index outside the logits.
        """
        self._require_active()
        _require_integer(index, "logit index")
        index = index.to(self.actions.device, torch.int64)
        illegal = (index < 0) | (index >= len(self.actions))
        if bool(illegal.any()):
            raise ActionError(f"illegal logit index {int(index[illegal][0])}; give 0 to {len(self.actions) - 1}")
        return self.actions[index]

    def _require_active(self) -> None:
        if not self.names:
            raise ActionError("no action space is active; call initialize_to_environment or activate_actions first")

    def _legal_pairs(self) -> str:
        largest = self.max_args.tolist()
        spaces = (f"{kind} {name} 0..{most}" for kind, (name, most) in enumerate(zip(self.names, largest, strict=True)))
        return f"legal types and their arguments: {', '.join(spaces)}"


def _check(names: Sequence[str], max_args: Sequence[int]) -> None:
    if not names or len(set(names)) != len(names):
        raise ActionError(f"action names {list(names)} must be non-empty and without repetition")
    if len(names) != len(max_args):
        raise ActionError(f"{len(names)} action names but {len(max_args)} maximal arguments; give one per action")
    for name, largest in zip(names, max_args, strict=True):
        if isinstance(largest, bool) or not isinstance(largest, int) or largest < 0:
            raise ActionError(f"maximal argument of action {name!r} is {largest!r}; give a whole number >= 0")


def _require_integer(values: Tensor, what: str) -> None:
    if values.dtype not in _INTEGERS:
        raise ActionError(f"{what} has dtype {values.dtype}; give an integer tensor")

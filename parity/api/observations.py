"""What a policy sees and does: observations drawn from bounds or by a function, and discrete actions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isinf, prod
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.compare.verdict import Misuse

#: One row in so many is all zeros, all at the lower or all at the upper bound: what a draw would almost never show.
_SPECIAL = 8
#: Free floats are drawn with this standard deviation.
_SPREAD = 2.0
#: A joint action is drawn as one float32 number.
_MOST_ACTIONS = 2**24


@dataclass(frozen=True)
class Observations:
    """One observation: its shape without the batch, its dtype, and what numbers it may hold.

    Args:
        shape: of one row, such as ``(17,)`` or ``(3, 84, 84)``.
        dtype: a torch dtype; floats are given in the dtype under test.
        low: least number, inclusive; left out, unbounded for floats, and what the dtype holds for uint8 and bool.
        high: largest number, inclusive; likewise.
        generate: ``generate(rows, generator)`` returns ``[rows, *shape]``, drawn from the ``torch.Generator`` alone,
            for observations that bounds do not describe.

    Raises:
        Misuse: the description contradicts itself.
    """

    shape: Sequence[int]
    dtype: torch.dtype = torch.float32
    low: float = -math.inf
    high: float = math.inf
    generate: Callable[[int, torch.Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise Misuse(f"Observations: shape is {self.shape!r}; give the positive sizes of one row, such as (17,)")
        if not isinstance(self.dtype, torch.dtype):
            raise Misuse(f"Observations: dtype is {self.dtype!r}; give a torch dtype, such as torch.float32")
        object.__setattr__(self, "shape", shape)
        for key, value in zip(("low", "high"), _range(self.dtype), strict=True):
            if isinf(getattr(self, key)):
                object.__setattr__(self, key, value)
        if not self.low <= self.high:
            raise Misuse(f"Observations: low is {self.low!r} and high {self.high!r}; give low <= high")
        if not self.dtype.is_floating_point and not (isfinite(self.low) and isfinite(self.high)) and not self.generate:
            raise Misuse(f"Observations: {self.dtype} without bounds; give low and high, or generate")

    def draw(self, rows: int, seed: int) -> Tensor:
        """Draw ``[rows, *shape]``, the same for the same seed.

        Raises:
            Misuse: ``generate`` raised, or returned something of another shape or dtype.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.generate is None:
            return self._drawn(rows, generator)
        try:
            found: Any = self.generate(rows, generator)
        except Exception as error:
            raise Misuse(
                f"Observations: generate({rows}, generator) raised {type(error).__name__}: {error}; it must return a "
                f"tensor {[rows, *self.shape]}"
            ) from error
        if not isinstance(found, Tensor) or tuple(found.shape) != (rows, *self.shape) or found.dtype != self.dtype:
            shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise Misuse(
                f"Observations: generate({rows}, generator) returned {shown}; it must return {self.dtype} "
                f"{[rows, *self.shape]}"
            )
        return found

    def _drawn(self, rows: int, generator: torch.Generator) -> Tensor:
        size = (rows, *self.shape)
        if not self.dtype.is_floating_point:
            span = int(self.high) - int(self.low) + 1
            value = torch.randint(0, span, size, generator=generator) + int(self.low)
        elif isfinite(self.low) and isfinite(self.high):
            value = self.low + (self.high - self.low) * torch.rand(size, generator=generator)
        else:
            value = (_SPREAD * torch.randn(size, generator=generator)).clamp(self.low, self.high)
        kinds = torch.randint(0, 3 * _SPECIAL, (rows,), generator=generator).tolist()
        for row, kind in enumerate(kinds):
            special = (0.0, self.low, self.high)[kind] if kind < 3 else math.inf
            if isfinite(special) and self.low <= special <= self.high:
                value[row] = special
        return value.to(self.dtype)


def _range(dtype: torch.dtype) -> tuple[float, float]:
    if dtype == torch.bool:
        return 0, 1
    return (0, 255) if dtype == torch.uint8 else (-math.inf, math.inf)


@dataclass(frozen=True)
class Environment:
    """What checks need to know of the world of a described pair.

    ``actions`` holds the number of choices of each head; a joint action is numbered through, in row-major order, and
    appears to checks as the argument of the only action type.
    """

    observations: Observations | Mapping[str, Observations]
    actions: tuple[int, ...]

    @property
    def source(self) -> str:
        """The file that it was read from: none."""
        return ""

    @property
    def action_names(self) -> tuple[str, ...]:
        """The one action type."""
        return ("action",)

    @property
    def max_action_args(self) -> tuple[int, ...]:
        """The largest joint action."""
        return (prod(self.actions) - 1,)

    def split(self, action: Tensor) -> Tensor:
        """Joint actions ``[...]`` to ``[...]`` for one head, ``[..., heads]`` for several."""
        if len(self.actions) == 1:
            return action
        parts = []
        for size in reversed(self.actions):
            parts.append(action % size)
            action = action // size
        return torch.stack(parts[::-1], dim=-1)


def draw_observations(environment: Any, *, rows: int, seed: int, noise: bool = True) -> Any:
    """Observations of a described environment: ``[rows, ...]``, or a TensorDict of them where there are several."""
    described = environment.observations
    if isinstance(described, Observations):
        return described.draw(rows, seed)
    drawn = {key: each.draw(rows, seed + 7919 * number) for number, (key, each) in enumerate(described.items())}
    return TensorDict(drawn, batch_size=[rows])


def described(observations: Any, actions: int | Sequence[int]) -> Environment:
    """Check what a user described.

    Raises:
        Misuse: it is no description; the message says what would be one.
    """
    several = isinstance(observations, Mapping) and observations
    parts = observations.values() if isinstance(observations, Mapping) else [observations]
    if not all(isinstance(part, Observations) for part in parts) or not (several or parts):
        raise Misuse(
            f"observations is {observations!r:.80}; give parity.Observations(shape, dtype, low, high), or a mapping "
            "from names to such"
        )
    sizes = (actions,) if isinstance(actions, int) else tuple(actions)
    if not sizes or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise Misuse(
            f"actions is {actions!r}; give the number of discrete actions, or a sequence with one number per head"
        )
    if prod(sizes) > _MOST_ACTIONS:
        raise Misuse(f"actions is {actions!r}: more than {_MOST_ACTIONS} joint actions; describe fewer heads")
    return Environment(observations, sizes)

"""One side of a described pair: how it is built and, where its methods or layouts differ, how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn, optim

from parity.compare.verdict import Misuse

Pick = str | int | Callable[[Any], Any]
"""A key or position in what a call returns, or a function of it."""

#: What ``call`` and ``sequence`` may ask for besides the policy and the observation.
_OFFERED = ("state", "reset", "action")


@dataclass(frozen=True)
class Side:
    """A builder, with the few functions that tell how its policy differs from the plainest.

    The plainest takes an observation ``[rows, ...]`` and returns ``(logits [rows, actions], value [rows])``; with
    ``initial_state`` it takes ``(observation, state)`` and returns ``(logits, value, state)``. A mapping or TensorDict
    with these keys will do as well.

    Args:
        build: returns a new ``nn.Module``. It is given those of ``seed``, ``dtype`` and ``device`` that it has
            parameters for; torch, numpy and random are seeded before, and the module is moved to the dtype and device
            that it does not take.
        call: ``call(policy, observation, ...)``. ``state``, ``reset`` (bool ``[rows]``, where an episode begins) and
            ``action`` (int64 ``[rows]`` or ``[rows, heads]`` to evaluate, None to act) are given if it has parameters
            of these names. Returns as above, optionally with ``log_prob``, ``entropy`` and ``action`` of its own.
        logits: where the logits are in what is returned: a key, a position, or a function.
        value: likewise the value.
        tensordict: whether the observation is given as a TensorDict: keys are the names of the observations, or
            ``observation`` where there is one without a name; what is written under other keys is results.
        initial_state: ``initial_state(policy, batch)``: the recurrent state before an episode, in any nesting; the
            batch may be any axis. Declares memory. Both sides' states hold the same tensors in the same order.
        get_state: ``get_state(policy)``, for a policy that keeps its state itself.
        set_state: ``set_state(policy, state)``, its counterpart.
        reset: ``reset(policy)`` before an episode of all rows, or ``reset(policy, rows)`` for those where ``rows`` is
            true, for a policy that keeps its state itself.
        sequence: as ``call``, on ``[batch, time, ...]`` at once, for a policy that has a way of its own to do so.
        clip: ``clip(policy)`` clips its weights. Declares clipping.
        optimizer: ``optimizer(policy)`` makes its torch optimizer; Adam on all parameters if left out.

    Raises:
        Misuse: an argument is no function, or its parameters cannot be served.
    """

    build: Callable[..., nn.Module]
    call: Callable[..., Any] | None = None
    logits: Pick | None = None
    value: Pick | None = None
    tensordict: bool = False
    initial_state: Callable[[Any, int], Any] | None = None
    get_state: Callable[[Any], Any] | None = None
    set_state: Callable[[Any, Any], None] | None = None
    reset: Callable[..., None] | None = None
    sequence: Callable[..., Any] | None = None
    clip: Callable[[Any], None] | None = None
    optimizer: Callable[[Any], optim.Optimizer] | None = None

    def __post_init__(self) -> None:
        for name in ("build", *_FUNCTIONS):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "build"):
                raise Misuse(f"Side: {name} is {value!r:.80}; give a function")
        for name in ("call", "sequence"):
            _require_known(name, getattr(self, name))
        if (self.get_state is None) != (self.set_state is None):
            raise Misuse("Side: get_state and set_state belong together; give both or neither")
        needing = [name for name in ("get_state", "reset", "sequence") if getattr(self, name) is not None]
        if needing and self.initial_state is None:
            raise Misuse(f"Side: {needing[0]} is given and initial_state is not; give initial_state(policy, batch)")
        if self.reset is not None and self.get_state is None:
            raise Misuse(
                "Side: reset is for a policy that keeps its state itself; give get_state and set_state too, or let "
                "call take a parameter named reset"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Side:
        return self  # a declaration: what its functions hold is nobody's state

    @property
    def resets_itself(self) -> bool:
        """Whether the policy is told where episodes begin, instead of being given a fresh state there."""
        asked = any("reset" in parameters_of(function) for function in (self.call, self.sequence) if function)
        return asked or self.resets_rows

    @property
    def resets_rows(self) -> bool:
        """Whether ``reset`` takes the rows to reset."""
        return self.reset is not None and len(parameters_of(self.reset)) > 1


_FUNCTIONS = ("call", "initial_state", "get_state", "set_state", "reset", "sequence", "clip", "optimizer")


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters; none where Python cannot tell."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def offered_to(function: Callable[..., Any]) -> frozenset[str]:
    """Which of ``state``, ``reset`` and ``action`` a ``call`` or ``sequence`` asks for."""
    return frozenset(parameters_of(function)[2:]) & frozenset(_OFFERED)


def _require_known(name: str, function: Callable[..., Any] | None) -> None:
    if function is None:
        return
    try:
        rest = list(inspect.signature(function).parameters.values())[2:]
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in rest:
        asked = parameter.default is inspect.Parameter.empty and parameter.kind not in kinds
        if asked and parameter.name not in _OFFERED:
            raise Misuse(
                f"Side: {name} asks for {parameter.name!r}; after the policy and the observation it may take "
                f"{', '.join(_OFFERED)}, by these names"
            )

"""Checks of what every environment is given: settings, actions and stored states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parity.agents.errors import ActionError, ConfigError

#: The key of a state under which an environment keeps the settings that the rest of the state is valid for.
SETTINGS = "settings"


def whole_number(where: str, name: str, value: object, low: int, high: int, why: str = "") -> int:
    """Return ``value`` if it is a whole number from ``low`` to ``high``, both inclusive.

    Args:
        where: the environment, for the message.
        name: the setting, for the message.
        value: what was given.
        low: the least legal value.
        high: the greatest one.
        why: the reason of the limits, where they do not explain themselves.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        reason = f" ({why})" if why else ""
        raise ConfigError(f"{where}: {name} is {value!r}; give a whole number from {low} to {high}{reason}")
    return value


def seed_number(where: str, seed: object) -> int:
    """``whole_number`` for the seed of ``reset``: 0 to 2^31 - 1, which every generator takes."""
    return whole_number(where, "seed", seed, 0, 2**31 - 1)


def legal_actions(actions: Tensor, num_agents: int, action_names: Sequence[str], largest: Tensor) -> Tensor:
    """Return actions as int64 on the CPU.

    Args:
        actions: ``[B, 2]`` integer (type, argument).
        num_agents: B.
        action_names: one per type, for messages.
        largest: the largest legal argument of each type, inclusive, int64.

    Raises:
        ActionError: an action is illegal (the message names agent, action and legal range), or the tensor is no such.
    """
    if tuple(actions.shape) != (num_agents, 2) or actions.is_floating_point() or actions.dtype == torch.bool:
        raise ActionError(
            f"actions are {actions.dtype} of shape {list(actions.shape)}; give integers of shape [{num_agents}, 2], "
            "one (type, argument) per agent"
        )
    actions = actions.to("cpu", torch.int64)
    kind, argument = actions.unbind(1)
    known = (kind >= 0) & (kind < len(largest))
    legal = known & (argument >= 0) & (argument <= largest[kind.clamp(0, len(largest) - 1)])
    if not bool(legal.all()):
        agent = int((~legal).nonzero()[0])
        kind, argument = actions[agent].tolist()
        remedy = (
            f"arguments of {action_names[kind]!r} are 0 to {int(largest[kind])}"
            if bool(known[agent])
            else f"types are 0 to {len(largest) - 1}"
        )
        raise ActionError(f"agent {agent}: action ({kind}, {argument}) is illegal; {remedy}")
    return actions


def fitting_state(where: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of a stored state that has the keys, dtypes, shapes and settings of the present one, on the CPU.

    Args:
        where: the environment, for the message.
        state: what was stored.
        own: the present state of the environment that is to load it; its entry ``SETTINGS`` must be equal.

    Raises:
        ConfigError: ``state`` does not fit; the message names the key.
    """
    source = "load the state of an environment built alike"
    for key in [*own, *sorted(set(state) - set(own))]:
        if key not in state or key not in own:
            problem = "lacks" if key in own else "has the unknown key"
            raise ConfigError(f"{where}: the state to load {problem} {key!r}; {source}")
        there, here = state[key], own[key]
        if there.dtype != here.dtype or there.shape != here.shape:
            raise ConfigError(
                f"{where}: {key!r} of the state to load is {there.dtype} {list(there.shape)}, not {here.dtype} "
                f"{list(here.shape)}; {source}"
            )
    if not torch.equal(state[SETTINGS].cpu(), own[SETTINGS]):
        raise ConfigError(
            f"{where}: the state to load was taken with the settings {state[SETTINGS].tolist()}, here they are "
            f"{own[SETTINGS].tolist()}; {source}"
        )
    return {key: state[key].to("cpu", copy=True) for key in own}

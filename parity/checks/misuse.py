"""Misuse of a policy's forward, and the error that each kind must meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from parity.agents.errors import ActionError, MemoryStateError, ObservationError
from parity.agents.interface import DONES, ENV_ID_START, ENV_OBS, MEMORY_C, MEMORY_H, TRUNCATEDS
from parity.checks.draw import Scene
from parity.pairs.subjects import Subject

REFUSED = {
    "a state argument": "MemoryStateError",
    "an empty batch": "ObservationError",
    "one token too few": "ObservationError",
    "one token too many": "ObservationError",
    "observations of dtype float32": "ObservationError",
    "an action of an unknown type": "ActionError",
    "an action with too large an argument": "ActionError",
    "a float action": "ActionError",
    "an action without a time axis": "ActionError",
    "no observations": "ObservationError",
    "tokens of two numbers": "ObservationError",
    "observations with two time axes": "ObservationError",
    "a batch size without the rows": "ObservationError",
    "dones of another shape": "ObservationError",
    "truncateds of another shape": "ObservationError",
    "environment ids of dtype float32": "ObservationError",
    "an action of a negative type": "ActionError",
    "an action with a negative argument": "ActionError",
    "an action of three numbers": "ActionError",
    "actions for one row more": "ActionError",
    "memory_h without memory_c": "MemoryStateError",
    "memory_c without memory_h": "MemoryStateError",
    "memory of another width": "MemoryStateError",
    "memory for one row more": "MemoryStateError",
    "a state stored for one row more": "MemoryStateError",
}
"""Kind of misuse -> name of the error."""


def refused(subject: Subject, scene: Scene) -> dict[str, str]:
    """Kind of misuse -> the error that it meets, or ``accepted``."""
    found: dict[str, str] = {}
    policy = subject.copy().policy
    for name, misuse in _kinds(subject, scene).items():
        policy.reset_memory()
        try:
            misuse(policy)
            found[name] = "accepted"
        except (ActionError, MemoryStateError, ObservationError) as error:
            found[name] = type(error).__name__
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _kinds(subject: Subject, scene: Scene) -> dict[str, Callable[[Any], object]]:
    td, action = scene.training(subject)
    step = scene.at(0, subject)
    rows = step[ENV_OBS]
    environment = subject.recipe.environment

    def acts(**changed: Tensor) -> Callable[[Any], object]:
        return lambda policy: policy(_changed(step, **changed))

    def learns(action: Tensor, **changed: Tensor) -> Callable[[Any], object]:
        return lambda policy: policy(_changed(td, **changed), action=action)

    def on(given: TensorDictBase) -> Callable[[Any], object]:
        return lambda policy: policy(given)

    def put(kind: int, argument: int) -> Tensor:
        changed = action.clone()
        changed[0, 0] = torch.tensor([kind, argument])
        return changed

    def twice(policy: Any) -> None:
        policy(TensorDict({ENV_OBS: torch.cat([rows, rows[:1]])}, batch_size=[len(rows) + 1]))
        policy(TensorDict({ENV_OBS: rows}, batch_size=[len(rows)]))

    flags = torch.zeros(*step.batch_size, 2, device=subject.device)
    flat = action[:, 0]
    kinds: dict[str, Callable[[Any], object]] = {
        "no observations": on(step.exclude(ENV_OBS)),
        "an empty batch": on(step[:0]),
        "one token too few": acts(**{ENV_OBS: rows[:, 1:]}),
        "one token too many": acts(**{ENV_OBS: torch.cat([rows, rows[:, :1]], dim=1)}),
        "tokens of two numbers": acts(**{ENV_OBS: rows[..., :2]}),
        "observations of dtype float32": acts(**{ENV_OBS: rows.to(torch.float32)}),
        "observations with two time axes": on(TensorDict({ENV_OBS: rows[:, None, None]}, batch_size=[len(rows), 1, 1])),
        "a batch size without the rows": on(TensorDict({ENV_OBS: rows}, batch_size=[])),
        "dones of another shape": acts(**{DONES: flags}),
        "truncateds of another shape": acts(**{TRUNCATEDS: flags}),
        "environment ids of dtype float32": acts(**{ENV_ID_START: torch.zeros_like(flags[:, 0])}),
        "an action of an unknown type": learns(put(len(environment.action_names), 0)),
        "an action of a negative type": learns(put(-1, 0)),
        "an action with too large an argument": learns(put(0, environment.max_action_args[0] + 1)),
        "an action with a negative argument": learns(put(0, -1)),
        "a float action": learns(action.to(torch.float32)),
        "an action of three numbers": learns(torch.cat([action, action[..., :1]], dim=-1)),
        "actions for one row more": learns(torch.cat([action, action[:1]])),
        "an action without a time axis": lambda policy: policy(step.clone(), action=flat),
        "a state argument": lambda policy: policy(step.clone(), state=(1, 2)),
    }
    if MEMORY_H in td.keys():  # noqa: SIM118 - a TensorDict is no mapping
        h, c = td[MEMORY_H], td[MEMORY_C]
        without = {key: td.exclude(key) for key in (MEMORY_H, MEMORY_C)}
        kinds |= {
            "memory_h without memory_c": lambda policy: policy(without[MEMORY_C].clone(), action=action),
            "memory_c without memory_h": lambda policy: policy(without[MEMORY_H].clone(), action=action),
            "memory of another width": learns(action, **{MEMORY_H: h[..., 1:], MEMORY_C: c[..., 1:]}),
            "memory for one row more": learns(action, **{MEMORY_C: torch.cat([c, c], dim=2)}),
            "a state stored for one row more": twice,
        }
    return kinds


def _changed(td: TensorDictBase, **changed: Tensor) -> TensorDict:
    return TensorDict({**dict(td.items()), **changed}, batch_size=td.batch_size)

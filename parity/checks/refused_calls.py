"""Misuse of a policy's other methods, by check, and the error that each kind must meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict

from parity.agents.errors import ActionError, AgentError, ConfigError, MemoryStateError
from parity.agents.interface import ACTIONS, ENV_OBS, FULL_LOG_PROBS, MEMORY_H, VALUES, Feature
from parity.checks.case import Case
from parity.conditions import seed_global
from parity.pairs.subjects import Sides, Subject

#: Half of the examples, the simplest among them, look at right use alone: misuse would hide why that goes wrong.
MISUSE = st.booleans()

Calls = Mapping[str, Callable[[Any], object]]
"""Kind of misuse -> what is done with a policy."""

_MANY = 10_000  # more full names than any embedding table has rows


def _action_calls(policy: Any) -> Calls:
    def activate(names: list[str], max_args: list[int]) -> Callable[[Any], object]:
        return lambda policy: policy.activate_actions(names, max_args)

    return {
        "no action at all": activate([], []),
        "an action named twice": activate(["move", "move"], [0, 1]),
        "more names than maxima": activate(["move", "turn"], [0]),
        "more maxima than names": activate(["move"], [0, 1]),
        "a negative maximum": activate(["move", "turn"], [0, -1]),
        "an action of two floats": lambda policy: policy.convert_action_to_logit_index(torch.zeros(1, 2)),
        "an action of three integers": lambda policy: policy.convert_action_to_logit_index(
            torch.zeros(1, 3, dtype=torch.int64)
        ),
        "a float logit index": lambda policy: policy.convert_logit_index_to_action(torch.zeros(1)),
    }


def _row_calls(policy: Any) -> Calls:
    def restore(rows: dict[str, int]) -> Callable[[Any], object]:
        return lambda policy: policy.restore_action_rows(rows)

    return {
        "more full names than rows": lambda policy: policy.activate_actions(["stretch"], [_MANY]),
        "rows held twice": restore({"move_0": 0, "turn_0": 0}),
        "rows with a gap": restore({"move_0": 0, "turn_0": 2}),
        "more rows than there are": restore({f"move_{number}": number for number in range(_MANY)}),
    }


def _feature_calls(policy: Any) -> Calls:
    def activate(features: dict[str, Feature]) -> Callable[[Any], object]:
        return lambda policy: policy.activate_observations(features)

    def restore(mapping: dict[str, Any]) -> Callable[[Any], object]:
        return lambda policy: policy.restore_original_feature_mapping(mapping)

    return {
        "an id above 254": activate({"hp": Feature(255)}),
        "a negative id": activate({"hp": Feature(-1)}),
        "an id that is no integer": activate({"hp": Feature(1.5)}),  # pyright: ignore[reportArgumentType]
        "an id held twice": activate({"hp": Feature(3), "team": Feature(3)}),
        "a normalization of 0": activate({"hp": Feature(3, 0.0)}),
        "a negative normalization": activate({"hp": Feature(3, -1.0)}),
        "an infinite normalization": activate({"hp": Feature(3, float("inf"))}),
        "a normalization that is no number": activate({"hp": Feature(3, float("nan"))}),
        "more new features than ids": activate({f"new {number}": Feature(number) for number in range(255)}),
        "a stored id above 254": restore({"hp": 255}),
        "a stored id held twice": restore({"hp": 3, "team": 3}),
        "a stored id of text": restore({"hp": "3"}),
    }


def _memory_calls(policy: Any) -> Calls:
    layers, hidden = policy.get_agent_experience_spec()[MEMORY_H].shape
    h = c = torch.zeros(layers, 2, hidden, dtype=policy.dtype, device=policy.device)

    def put(*states: torch.Tensor) -> Callable[[Any], object]:
        return lambda policy: policy.set_memory({0: (h, c), 1: states})

    return {
        "a state without a batch axis": put(h[:, 0], c[:, 0]),
        "a state of another width": put(h[..., 1:], c[..., 1:]),
        "a state of fewer layers": put(h[1:], c[1:]),
        "h and c of different batches": put(h, torch.cat([c, c], 1)),
        "h of another width than c": put(h[..., 1:], c),
    }


def _metric_calls(policy: Any) -> Calls:
    def measure(delta: float) -> Callable[[Any], object]:
        return lambda policy: policy.compute_weight_metrics(delta=delta)

    return {f"delta {delta}": measure(delta) for delta in (0.0, 1.0, -0.5, float("nan"))}


_KINDS: Mapping[str, tuple[Callable[[Any], Calls], type[AgentError], Callable[[Any], object]]] = {
    "actions": (_action_calls, ActionError, lambda policy: policy.action_rows()),
    "rows": (_row_calls, ActionError, lambda policy: policy.action_rows()),
    "features": (_feature_calls, ConfigError, lambda policy: policy.original_feature_mapping()),
    "memory": (_memory_calls, MemoryStateError, lambda policy: sorted(policy.get_memory())),
    "weight_metrics": (_metric_calls, ConfigError, lambda policy: None),
}
"""What is misused -> its kinds, their error, and what must be as before once a call was refused."""


_AFTER = "what the policy does after all of these"


def _acts(case: Case, subject: Subject) -> list[torch.Tensor]:
    """What the subject makes of a few rows; what it then holds in memory has changed."""
    observations = case.pair.generate(subject.recipe.environment, rows=2, seed=5)
    seed_global(5)
    with torch.no_grad():
        td = subject.policy(TensorDict({ENV_OBS: observations.to(subject.device)}, batch_size=[2]))
    found = [td[ACTIONS], td[FULL_LOG_PROBS], td[VALUES]]
    if "action_table" in case.pair.capabilities:  # half an activation may show in what logits stand for alone
        logits = torch.arange(td[FULL_LOG_PROBS].shape[-1], device=subject.device)
        found.append(subject.policy.convert_logit_index_to_action(logits))
    return found


def refuse_calls(case: Case, what: str, sides: Sides, *, phase: str) -> None:
    """Judge each side by what it does when its methods are misused: it raises, and nothing has changed then.

    Args:
        case: the cell being judged.
        what: ``actions``, ``rows`` (of embeddings), ``features``, ``memory`` or ``weight_metrics``.
        sides: are left as they are.
        phase: for the report; its component is the kind of misuse.
    """
    kinds, error, state = _KINDS[what]

    def observe(subject: Subject) -> dict[str, Any]:
        found: dict[str, Any] = {}
        policy = subject.copy().policy
        before, acted = state(policy), _acts(case, subject.copy())
        for kind, call in kinds(policy).items():
            try:
                call(policy)
                found[kind] = "accepted"
            except error:
                found[kind] = "refused" if state(policy) == before else "refused, but something has changed"
            except Exception as other:
                found[kind] = f"{type(other).__name__}: {other}"
        acts = _acts(case, dataclasses.replace(subject, policy=policy))
        same = all(torch.equal(one, other) for one, other in zip(acted, acts, strict=True))
        return found | {_AFTER: "as before" if same else "otherwise than before"}

    expected = dict.fromkeys(kinds(sides.reference.policy), "refused") | {_AFTER: "as before"}
    case.facts(observe, expected, sides, phase=phase)

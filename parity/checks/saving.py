"""Saving without a trainer: a new policy that loads a state dict is the saved one, and a copy is a copy."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, VALUES
from parity.checks.case import Case
from parity.checks.draw import SEEDS, WEIGHTS
from parity.compare.trace import Trace
from parity.conditions import seed_global
from parity.pairs.subjects import Subject

ROWS = 4
_LOADED = "state_dict does not hold all that the policy computes with: register buffers for what is no parameter"
_COPIED = "a deep copy shares something with its original, or lacks something of it"


def examples() -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of weights and observations."""
    return st.fixed_dictionaries({"weights": WEIGHTS, "seed": SEEDS})


def judge_saving(case: Case, example: dict[str, Any]) -> None:
    """Judge both sides' ``state_dict``, through ``torch.save`` with ``weights_only``, and their deep copies.

    Raises:
        DivergenceFound: a policy that was loaded or copied acts differently.
    """
    sides = case.builds.sides(case.recipe(), example["weights"])

    def act(policy: Any, subject: Subject, number: int) -> TensorDict:
        rows = case.pair.generate(subject.recipe.environment, rows=ROWS, seed=example["seed"] + number)
        seed_global(example["seed"] + number)  # what else ran must not move the stream that dropout draws from
        with torch.no_grad():
            return policy(TensorDict({ENV_OBS: subject.given(rows, example["seed"])}, batch_size=[ROWS]))

    def record(policy: Any, subject: Subject, trace: Trace) -> None:
        policy.reset_memory()
        out = act(policy, subject, 1)
        trace.record(FULL_LOG_PROBS, out[FULL_LOG_PROBS], judged="exact")
        trace.record(VALUES, out[VALUES], judged="exact")

    def kept(subject: Subject, trace: Trace) -> None:
        trace.phase = "load"
        act(subject.policy, subject, 0)  # what it keeps of its inputs must be saved as well
        record(subject.policy, subject, trace)

    def loaded(subject: Subject, trace: Trace) -> None:
        trace.phase = "save"
        act(subject.policy, subject, 0)
        buffer = io.BytesIO()
        torch.save(subject.policy.state_dict(), buffer)
        buffer.seek(0)
        trace.phase = "load"
        other = case.builds.sides(case.recipe(seed=subject.recipe.system.seed + 1), None)
        policy = getattr(other, subject.side).copy().policy
        policy.load_state_dict(torch.load(buffer, weights_only=True))
        record(policy, subject, trace)

    def uncopied(subject: Subject, trace: Trace) -> None:
        trace.phase = "deep copy"
        act(subject.policy, subject, 0)
        record(subject.policy, subject, trace)

    def copied(subject: Subject, trace: Trace) -> None:
        trace.phase = "deep copy"
        act(subject.policy, subject, 0)
        policy = copy.deepcopy(subject.policy)
        act(subject.policy, subject, 2)
        with torch.no_grad():
            for value in (*subject.policy.parameters(), *subject.policy.buffers()):
                value.zero_()
        record(policy, subject, trace)

    case.contract(kept, loaded, sides, cause=_LOADED)
    case.contract(uncopied, copied, sides, cause=_COPIED)

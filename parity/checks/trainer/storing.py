"""The experience used directly: what it keeps of a step, where, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict

from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    DONES,
    ENV_OBS,
    FULL_LOG_PROBS,
    MEMORY_C,
    MEMORY_H,
    TRUNCATEDS,
    VALUES,
)
from parity.checks.oracles.segments import last_written
from parity.checks.registry import Example
from parity.checks.trainer.recomputed import Plan
from parity.checks.trainer.seen import REWARDS
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject
from parity.pairs.training import Training

Fields = dict[str, tuple[tuple[int, ...], torch.dtype]]


def kept_fields(subject: Subject) -> Fields:
    """Key -> shape and dtype of one agent's step: the policy's own, and what advantages and losses need."""
    own = {key: (tuple(spec.shape), spec.dtype) for key, spec in subject.policy.get_agent_experience_spec().items()}
    flag, number = ((), torch.float32), ((), subject.dtype)
    return {
        **own,
        REWARDS: flag,
        DONES: flag,
        TRUNCATEDS: flag,
        ACTIONS: ((2,), torch.int32),
        ACT_LOG_PROB: number,
        VALUES: number,
    }


HANDLING = {
    "kept keys": "the policy's and the trainer's",
    "kept shapes and dtypes": "as they are stored",
    "a step without env_obs": "refused, naming it",
    "a step without act_log_prob": "refused, naming it",
    "values with an axis too many": "refused, naming it",
    "actions of another dtype": "refused, naming it",
    "agents beyond the last": "refused, naming it",
    "agents before the first": "refused, naming it",
    "every second agent": "refused, naming it",
    "no agent": "refused, naming it",
    "a draw of no segment": "refused, naming it",
    "a draw of more than all segments": "refused, naming it",
    "draws of one segment and of all": "accepted",
    "a refused step": "leaves all as it was",
    "agents at different steps": "refused, naming it",
    "one agent and segments of one step": "accepted",
    "ready after each of two segments": [False, True],
    "a batch_size of 1": "refused, naming it",
    "a minibatch_size of 1": "refused, naming it",
    "a forward_pass_minibatch of more than all agents": "refused, naming it",
    "more gradient_accumulation_steps than minibatches": "refused, naming it",
}


def handling(training: Training, subject: Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """Facts about what is kept and what is refused; uses up the subject."""
    plan, fields = Plan(settings), kept_fields(subject)

    def start(**changes: Any) -> Any:
        return training.start(subject.policy, subject.recipe.environment, {**settings, **changes})

    experience = start().experience
    buffer, found = experience.buffer, {}
    found["kept keys"] = _difference(set(buffer), set(fields)) or HANDLING["kept keys"]
    lead = {key: (plan.segments,) if key in (MEMORY_H, MEMORY_C) else (plan.segments, plan.horizon) for key in fields}
    wrong = [
        f"{key} is {buffer[key].dtype} of shape {list(buffer[key].shape)}"
        for key, (shape, dtype) in fields.items()
        if key in buffer and (tuple(buffer[key].shape), buffer[key].dtype) != ((*lead[key], *shape), dtype)
    ]
    found["kept shapes and dtypes"] = ", ".join(wrong) or HANDLING["kept shapes and dtypes"]
    before = {key: value.clone() for key, value in buffer.items()}
    agents = slice(0, plan.slice)

    def storing(key: str, change: Callable[[TensorDict], Any]) -> str:
        td = _step(fields, plan.slice, _generator(), subject.device)
        change(td)
        return _refusal(lambda: experience.store(td, agents), key)

    for key in (ENV_OBS, ACT_LOG_PROB):
        found[f"a step without {key}"] = storing(key, lambda td, key=key: td.pop(key))
    found["values with an axis too many"] = storing(VALUES, lambda td: td.update({VALUES: td[VALUES].unsqueeze(1)}))
    found["actions of another dtype"] = storing(ACTIONS, lambda td: td.update({ACTIONS: td[ACTIONS].double()}))
    for name, odd in (
        ("agents beyond the last", slice(1, plan.agents + 1)),
        ("agents before the first", slice(-1, 1)),
        ("every second agent", slice(0, plan.agents, 2)),
        ("no agent", slice(1, 1)),
    ):
        step = _step(fields, len(range(odd.start, odd.stop, odd.step or 1)), _generator(), subject.device)
        found[name] = _refusal(lambda step=step, odd=odd: experience.store(step, odd), "agents")
    even = torch.full((plan.segments,), 1 / plan.segments)
    for name, count in (("a draw of no segment", 0), ("a draw of more than all segments", plan.segments + 1)):
        found[name] = _refusal(lambda count=count: experience.draw(even, count), f"draw {count} of")
    drawn = {_refusal(lambda count=count: experience.draw(even, count), "draw") for count in (1, plan.segments)}
    found["draws of one segment and of all"] = ", ".join(sorted(drawn))
    same = all(torch.equal(before[key], value) for key, value in experience.buffer.items())
    found["a refused step"] = HANDLING["a refused step"] if same else "is stored in part"
    _refusal(lambda: experience.store(_step(fields, 1, _generator(), subject.device), slice(0, 1)), "nothing")
    step = _step(fields, plan.agents, _generator(), subject.device)
    found["agents at different steps"] = _refusal(lambda: experience.store(step, slice(0, plan.agents)), "agents")
    smallest = {"num_agents": 1, "bptt_horizon": 1, "forward_pass_minibatch": 0, "batch_size": 2, "minibatch_size": 1}
    found["one agent and segments of one step"] = _refusal(
        lambda: start(**smallest, gradient_accumulation_steps=1), "nothing"
    )
    short, ready = start(**smallest, gradient_accumulation_steps=1).experience, []
    short.reset()
    for _ in range(2):
        refused = _refusal(lambda: short.store(_step(fields, 1, _generator(), subject.device), slice(0, 1)), "nothing")
        ready.append(short.ready if refused == "accepted" else refused)
    found["ready after each of two segments"] = ready
    for key, name, value in (
        ("batch_size", "a batch_size of 1", 1),
        ("minibatch_size", "a minibatch_size of 1", 1),
        ("forward_pass_minibatch", "a forward_pass_minibatch of more than all agents", plan.agents + 1),
        ("gradient_accumulation_steps", "more gradient_accumulation_steps than minibatches", plan.minibatches + 1),
    ):
        found[name] = _refusal(lambda key=key, value=value: start(**{key: value}), key)
    return found


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _difference(found: set[str], expected: set[str]) -> str:
    parts = [("not kept", expected - found), ("kept beside them", found - expected)]
    return "; ".join(f"{what}: {', '.join(sorted(keys))}" for what, keys in parts if keys)


def _refusal(attempt: Callable[[], Any], name: str) -> str:
    try:
        attempt()
    except ValueError as error:
        return "refused, naming it" if name in str(error) else f"refused without naming {name}: {error}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return "accepted"


def _step(fields: Fields, count: int, generator: torch.Generator, device: str) -> TensorDict:
    """A random step of some agents, with keys that nobody keeps."""
    values = {}
    for key, (shape, dtype) in fields.items():
        if dtype.is_floating_point:
            values[key] = torch.randn(count, *shape, generator=generator).to(dtype)
        else:
            values[key] = torch.randint(0, 100, (count, *shape), generator=generator).to(dtype)
    values[FULL_LOG_PROBS] = torch.randn(count, 7, generator=generator)
    return TensorDict(values, batch_size=[count]).to(device)


def ring(training: Training, subject: Subject, example: Example, trace: Trace, *, by_loop: bool) -> None:
    """Store more steps than fit, and record the whole buffer, or with ``by_loop`` what it must be."""
    settings = example["settings"]
    plan, fields = Plan(settings), kept_fields(subject)
    experience = training.start(subject.policy, subject.recipe.environment, settings).experience
    experience.reset()
    expected = {key: value.clone() for key, value in experience.buffer.items()}
    generator = torch.Generator().manual_seed(example["seed"])
    steps, full = plan.steps + example["extra_steps"], None
    stored: list[dict[str, torch.Tensor]] = []
    trace.phase = "store"
    for time in range(steps):
        parts = []
        for start in range(0, plan.agents, plan.slice):
            td = _step(fields, plan.slice, generator, subject.device)
            parts.append(td.clone())
            experience.store(td, slice(start, start + plan.slice))
            td.zero_()  # what is stored must not be the caller's own
        if experience.ready and full is None:
            full = time + 1
        stored.append({key: torch.cat([part[key] for part in parts]) for key in fields})
    trace.fact("full after so many steps", plan.steps if by_loop else full, component="ready")
    held = last_written(agents=plan.agents, segments=plan.segments, horizon=plan.horizon, steps=steps)
    for key, buffer in experience.buffer.items():
        value = expected[key]
        for (segment, step), (agent, time) in held.items() if by_loop else ():
            if key not in (MEMORY_H, MEMORY_C):
                value[segment, step] = stored[time][key][agent]
            elif step == 0:
                value[segment] = stored[time][key][agent]
        trace.record(key, value if by_loop else buffer, judged="exact")

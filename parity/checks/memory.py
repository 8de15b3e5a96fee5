"""memory: state across steps, episodes and environment slices; a sequence is its steps, a reset is a start."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from parity.agents.errors import MemoryStateError
from parity.agents.interface import DONES, FULL_LOG_PROBS, MEMORY_C, MEMORY_H, TRUNCATEDS, VALUE, VALUES
from parity.checks.case import Case
from parity.checks.draw import Scene, open_scene, scenes
from parity.checks.refused_calls import refuse_calls
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject

SLICES = (0, 3)  # two environment slices, interleaved


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    return st.fixed_dictionaries(
        {
            "scene": scenes(recordings, batch=(1, 3), steps=(2, 5), pair=pair),
            "forget_all_before": st.integers(1, 5),
            "forget_one_before": st.integers(1, 5),
        }
    )


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example["scene"])
    case.parity(lambda subject, trace: _rollout(subject, trace, scene, example), scene.sides)
    if case.dtype != torch.float64:
        return  # what follows is logic, and float64 shows it
    can = case.pair.capabilities
    if "memory_slices" in can:
        case.facts(lambda subject: _handling(subject, scene), _HANDLING, scene.sides, phase="rollout",
                   component="memory")  # fmt: skip
        refuse_calls(case, "memory", scene.sides, phase="rollout")
    if "sequences" in can:
        case.contract(
            lambda subject, trace: _stepwise(subject, trace, scene),
            lambda subject, trace: _at_once(subject, trace, scene),
            scene.sides,
            cause="a sequence must be its steps: look at how rows are folded into batch and time, and where resets act",
        )
        case.contract(
            lambda subject, trace: _stepwise_from(subject, trace, scene),
            lambda subject, trace: _training_from(subject, trace, scene),
            scene.sides,
            cause="training must see the state that the rollout saw: initial memory, and resets inside the sequence",
        )
    if "resets" in can:
        case.contract(
            lambda subject, trace: _fresh(subject, trace, scene),
            lambda subject, trace: _after_reset(subject, trace, scene),
            scene.sides,
            cause="a row whose episode begins must behave as if nothing had come before it",
        )


def _rollout(subject: Subject, trace: Trace, scene: Scene, example: Example) -> None:
    """Two interleaved slices step by step, with forgetting in between; then the stored states, put back and read."""
    policy = subject.policy
    trace.phase = "rollout"
    for step in range(scene.steps):
        trace.step = step
        if step == example["forget_all_before"]:
            policy.reset_memory()
        if step == example["forget_one_before"]:
            policy.reset_env_memory(SLICES[1])
        for env_id in SLICES:
            # the second slice sees the episode backwards, so that the slices' states differ
            at = step if env_id == SLICES[0] else scene.steps - 1 - step
            td = policy(scene.at(at, subject, env_id=env_id))
            trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS])
            trace.record(VALUES, td[VALUES])
    _record_memory(subject, trace, scene)
    policy.set_memory(policy.get_memory())
    trace.step = scene.steps
    td = policy(scene.at(0, subject, env_id=SLICES[1]))
    trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS])


def _record_memory(subject: Subject, trace: Trace, scene: Scene) -> None:
    memory = subject.policy.get_memory()
    trace.fact("stored slices", sorted(memory), component="memory")
    for env_id in sorted(memory):
        for key, value in zip(scene.states, memory[env_id], strict=True):
            trace.record(f"{key} of slice {env_id}", value, component="memory")


_HANDLING = {
    "stored state is detached": True,
    "stored shape": True,
    "get_memory returns copies": True,
    "set_memory keeps copies": True,
    "set_memory casts to the policy's dtype": True,
    "set_memory forgets what it is not given": [SLICES[1]],
    "a batch of another size": "refused, naming the slice",
    "reset_env_memory leaves other slices": True,
    "reset_memory forgets all": True,
    "training leaves stored states alone": True,
    "half an initial memory": "refused",
}


def _handling(subject: Subject, scene: Scene) -> dict[str, Any]:
    """Facts about how states are stored, copied and refused."""
    subject = subject.copy()
    policy, found = subject.policy, {}
    for env_id in SLICES:
        policy(scene.at(0, subject, env_id=env_id))
    memory = policy.get_memory()
    spec = policy.get_agent_experience_spec()[MEMORY_H].shape
    flat = [value for pair in memory.values() for value in pair]
    found["stored state is detached"] = not any(value.requires_grad for value in flat)
    found["stored shape"] = all(value.shape == (spec[0], scene.batch, spec[1]) for value in flat)
    before = [value.clone() for value in flat]
    for value in flat:
        value.detach().zero_()
    after = [value for pair in policy.get_memory().values() for value in pair]
    found["get_memory returns copies"] = _equal(before, after)
    mine = policy.get_memory()
    policy.set_memory(mine)
    for pair in mine.values():
        for value in pair:
            value.detach().add_(1.0)
    found["set_memory keeps copies"] = _equal(before, [v for pair in policy.get_memory().values() for v in pair])
    td, action = scene.training(subject)
    policy(td, action=action)
    after = [value for pair in policy.get_memory().values() for value in pair]
    found["training leaves stored states alone"] = _equal(before, after)
    h, c = policy.get_memory()[SLICES[1]]
    policy.set_memory({SLICES[1]: (h.float(), c.float())})
    kept = policy.get_memory()
    found["set_memory casts to the policy's dtype"] = {value.dtype for value in kept[SLICES[1]]} == {policy.dtype}
    found["set_memory forgets what it is not given"] = sorted(kept)
    policy.set_memory({SLICES[1]: (torch.cat([h, h], 1), torch.cat([c, c], 1)), SLICES[0]: (h, c)})
    found["a batch of another size"] = _refusal(policy, scene.at(0, subject, env_id=SLICES[1]), str(SLICES[1]))
    policy.set_memory({env_id: (h, c) for env_id in SLICES})
    policy.reset_env_memory(SLICES[0])
    policy.reset_env_memory(12345)  # never seen: fine
    found["reset_env_memory leaves other slices"] = sorted(policy.get_memory()) == [SLICES[1]]
    policy.set_memory({env_id: (h, c) for env_id in SLICES})
    policy.reset_memory()
    found["reset_memory forgets all"] = all(not bool(v.any()) for p in policy.get_memory().values() for v in p)
    found["half an initial memory"] = "refused" if _half_refused(subject, scene) else "accepted"
    return found


def _half_refused(subject: Subject, scene: Scene) -> bool:
    td, action = scene.training(subject)
    del td[MEMORY_C]
    try:
        subject.policy(td, action=action)
    except MemoryStateError:
        return True
    return False


def _refusal(policy: Any, td: Any, name: str) -> str:
    try:
        policy(td)
    except MemoryStateError as error:
        return "refused, naming the slice" if name in str(error) else f"refused without naming slice {name}: {error}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return "accepted"


def _equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _stepwise(subject: Subject, trace: Trace, scene: Scene) -> None:
    trace.phase = "rollout"
    outs = [subject.policy(scene.at(step, subject, env_id=SLICES[1])) for step in range(scene.steps)]
    trace.record(FULL_LOG_PROBS, torch.stack([td[FULL_LOG_PROBS] for td in outs], 1))
    trace.record(VALUES, torch.stack([td[VALUES] for td in outs], 1))
    _record_memory(subject, trace, scene)


def _at_once(subject: Subject, trace: Trace, scene: Scene) -> None:
    trace.phase = "rollout"
    td = subject.policy(scene.sequence(subject, env_id=SLICES[1]))
    trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS])
    trace.record(VALUES, td[VALUES])
    _record_memory(subject, trace, scene)


def _stepwise_from(subject: Subject, trace: Trace, scene: Scene) -> None:
    """Roll out from the training TensorDict's initial memory."""
    trace.phase = "forward"
    td, _ = scene.training(subject)
    start = tuple(td[key][:, 0].transpose(0, 1).contiguous() for key in scene.states)
    subject.policy.set_memory({0: start})
    outs = [subject.policy(scene.at(step, subject)) for step in range(scene.steps)]
    trace.record(FULL_LOG_PROBS, torch.stack([out[FULL_LOG_PROBS] for out in outs], 1))
    trace.record(VALUE, torch.stack([out[VALUES] for out in outs], 1))


def _training_from(subject: Subject, trace: Trace, scene: Scene) -> None:
    trace.phase = "forward"
    td, action = scene.training(subject)
    out = subject.policy(td, action=action)
    trace.record(FULL_LOG_PROBS, out[FULL_LOG_PROBS])
    trace.record(VALUE, out[VALUE])


def _opening_rows(scene: Scene) -> torch.Tensor:
    """Rows whose episode begins at the last step."""
    return (scene.dones | scene.truncateds)[:, -1].nonzero().flatten()


def _fresh(subject: Subject, trace: Trace, scene: Scene) -> None:
    trace.phase = "rollout"
    last = subject.policy(scene.at(scene.steps - 1, subject))
    trace.record(FULL_LOG_PROBS, last[FULL_LOG_PROBS][_opening_rows(scene)])


def _after_reset(subject: Subject, trace: Trace, scene: Scene) -> None:
    trace.phase = "rollout"
    for step in range(scene.steps - 1):
        subject.policy(scene.at(step, subject))
    td = scene.at(scene.steps - 1, subject)
    # any dtype may carry the flags, non-zero is true, and either may be left out
    if scene.seed % 3:
        key, other = (DONES, TRUNCATEDS) if scene.seed % 3 == 1 else (TRUNCATEDS, DONES)
        td[key] = ((td[key] != 0) | (td[other] != 0)).to(torch.int64)
        del td[other]
    else:
        td[DONES], td[TRUNCATEDS] = td[DONES].to(torch.float32), td[TRUNCATEDS].to(torch.uint8)
    last = subject.policy(td)
    trace.record(FULL_LOG_PROBS, last[FULL_LOG_PROBS][_opening_rows(scene)])


CHECK = Check(
    name="memory",
    summary="random resets, interleaved slices, get/set/reset, detachment; sequence = steps, reset row = fresh row",
    examples=_examples,
    judge=_judge,
    dtypes=("float64", "float32"),
    needs=frozenset({"memory"}),
    share=0.5,
)

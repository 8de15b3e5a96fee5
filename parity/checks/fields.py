"""fields: what a policy reads from and writes to a TensorDict, what it leaves alone, and what it refuses."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    BATCH,
    BPTT,
    DONES,
    ENTROPY,
    ENV_ID_START,
    ENV_OBS,
    FULL_LOG_PROBS,
    MEMORY_C,
    MEMORY_H,
    TRUNCATEDS,
    VALUE,
    VALUES,
    FieldSpec,
)
from parity.checks.case import Case
from parity.checks.draw import Scene, open_scene, scenes
from parity.checks.ignored_tokens import WARNED, warned
from parity.checks.misuse import REFUSED, refused
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.conditions import seed_global
from parity.pairs.recipe import dtype_name
from parity.pairs.subjects import Subject

#: A key that no policy knows.
OWN = "the caller's own"
OTHER_TOKENS = 33
MODES = ("inference", "sequence", "training")
PHASES = {"inference": "rollout", "sequence": "rollout", "training": "forward"}


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example)
    remembers = "memory" in case.pair.capabilities
    spec = {"experience spec": _expected_spec(scene, remembers)}
    case.facts(_spec, spec, scene.sides, phase="build")
    for mode in MODES:
        phase = PHASES[mode]
        case.facts(
            lambda subject, m=mode: _observed(subject, scene, m), _expected(scene, mode), scene.sides, phase=phase
        )
        case.parity(lambda subject, trace, m=mode: _written(subject, trace, scene, m), scene.sides)
        case.contract(
            lambda subject, trace, m=mode: _computed(subject, trace, scene, m, poison=False),
            lambda subject, trace, m=mode: _computed(subject, trace, scene, m, poison=True),
            scene.sides,
            cause="a key that the policy writes must not be read back on the next call",
        )
        zeros = partial(_given, scene=scene, mode=mode, form="zeros")  # one program: it is run once
        for form, cause in _FORMS.items():
            if form == "nothing" or mode == "training":  # acting is given no memory, and flags of every dtype anyway
                case.contract(zeros, partial(_given, scene=scene, mode=mode, form=form), scene.sides, cause=cause)
    case.facts(lambda subject: warned(subject, scene, case), WARNED, scene.sides, phase="rollout")
    expected = {name: error for name, error in REFUSED.items() if remembers or error != "MemoryStateError"}
    case.facts(lambda subject: refused(subject, scene), expected, scene.sides, phase="forward")


def _expected_spec(scene: Scene, remembers: bool) -> list[tuple[str, FieldSpec]]:
    """What the experience buffer must keep, in order; the shape of a state is whatever the reference says."""
    subject = scene.sides.reference
    flag = FieldSpec((), torch.float32)
    spec = [(ENV_OBS, FieldSpec((scene.observations.shape[2], 3), torch.uint8)), (DONES, flag), (TRUNCATEDS, flag)]
    if remembers:
        given = subject.policy.get_agent_experience_spec().get(MEMORY_H)
        state = FieldSpec(given.shape if given is not None else (), subject.dtype)
        spec += [(MEMORY_H, state), (MEMORY_C, state)]
    return spec


def _spec(subject: Subject) -> dict[str, Any]:
    """The spec of a policy that was moved: initialising is activating actions and features, and nothing else."""
    policy = subject.copy().policy
    policy.initialize_to_environment(dataclasses.replace(subject.recipe.environment, num_tokens=OTHER_TOKENS))
    return {"experience spec": list(policy.get_agent_experience_spec().items())}


def _call(subject: Subject, scene: Scene, mode: str, poison: bool = False) -> tuple[TensorDictBase, TensorDictBase]:
    """Call a policy in one mode; return the caller's TensorDict and the returned one."""
    action: Tensor | None = None
    if mode == "training":
        td, action = scene.training(subject)
    else:
        td = scene.at(0, subject) if mode == "inference" else scene.sequence(subject)
    _add_to(td)
    if poison:
        for key in (BPTT, BATCH, *_outputs(scene, mode, subject)):
            td[key] = torch.full(td.batch_size, 99, dtype=torch.int64, device=subject.device)
    seed_global(5)
    return td, subject.policy(td, action=action)


def _add_to(td: TensorDictBase) -> None:
    """What a caller may bring along: a key of its own, and an episode that begins with the first step."""
    td[OWN] = torch.arange(td.numel()).reshape(td.batch_size)
    td[DONES][:1] = 1


def _outputs(scene: Scene, mode: str, subject: Subject) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Key -> shape and dtype of what a mode computes."""
    lead = (scene.batch,) if mode == "inference" else (scene.batch, scene.steps)
    environment = subject.recipe.environment
    logits = len(environment.max_action_args) + sum(environment.max_action_args)
    scalar = (lead, subject.dtype)
    if mode == "training":
        keys = {ACT_LOG_PROB: scalar, ENTROPY: scalar, VALUE: scalar}
    else:
        keys = {ACTIONS: ((*lead, 2), torch.int32), ACT_LOG_PROB: scalar, VALUES: scalar}
    return {**keys, FULL_LOG_PROBS: ((*lead, logits), subject.dtype)}


def _expected(scene: Scene, mode: str) -> dict[str, Any]:
    """The contract of one mode, field by field."""
    subject = scene.sides.reference
    lead = (scene.batch,) if mode == "inference" else (scene.batch, scene.steps)
    time = 1 if mode == "inference" else scene.steps
    expected: dict[str, Any] = {
        "batch size": lead,  # first: where it is wrong, every field's shape is
        BPTT: f"int64 {lead} all {time}",
        BATCH: f"int64 {lead} all {scene.batch}",
    }
    for key, (shape, dtype) in _outputs(scene, mode, subject).items():
        expected[key] = f"{dtype_name(dtype)} {shape} on {torch.device(subject.device).type}"
    inputs = set(scene.training(subject)[0].keys()) if mode == "training" else set(scene.at(0, subject).keys())
    inputs.add(OWN)
    written = {BPTT, BATCH, *_outputs(scene, mode, subject)}
    expected |= {
        "keys returned": sorted(inputs | written),
        "keys of the caller's TensorDict": sorted(inputs if mode == "training" else inputs | written),
        "the caller's TensorDict is returned": mode != "training",
        "input not changed": True,
    }
    return expected


def _observed(subject: Subject, scene: Scene, mode: str) -> dict[str, Any]:
    subject = subject.copy()
    before = scene.training(subject)[0] if mode == "training" else _fresh_input(subject, scene, mode)
    _add_to(before)
    td, out = _call(subject, scene, mode)
    found: dict[str, Any] = {}
    for key in (BPTT, BATCH):
        value = out.get(key, None)
        if isinstance(value, Tensor):
            distinct = sorted({int(v) for v in value.flatten().tolist()})
            shown = str(distinct[0]) if len(distinct) == 1 else f"of {distinct}"
            found[key] = f"{dtype_name(value.dtype)} {tuple(value.shape)} all {shown}"
    for key in _outputs(scene, mode, subject):
        value = out.get(key, None)
        if isinstance(value, Tensor):
            found[key] = f"{dtype_name(value.dtype)} {tuple(value.shape)} on {value.device.type}"
    same = all(torch.equal(before[key], td[key]) for key in before.keys())  # noqa: SIM118 - a TensorDict is no mapping
    return found | {
        "batch size": tuple(out.batch_size),
        "keys returned": sorted(out.keys()),
        "keys of the caller's TensorDict": sorted(td.keys()),
        "the caller's TensorDict is returned": out is td,
        "input not changed": same,
    }


def _fresh_input(subject: Subject, scene: Scene, mode: str) -> TensorDict:
    return scene.at(0, subject) if mode == "inference" else scene.sequence(subject)


def _written(subject: Subject, trace: Trace, scene: Scene, mode: str) -> None:
    """Names and layout of everything returned, the reference's against the candidate's."""
    trace.phase = PHASES[mode]
    _, out = _call(subject, scene, mode)
    for key in sorted(out.keys()):
        value = out[key]
        trace.fact("layout", (tuple(value.shape), dtype_name(value.dtype), value.device.type), component=key)
    for key in (BPTT, BATCH):
        trace.record(key, out[key], judged="exact")


def _computed(subject: Subject, trace: Trace, scene: Scene, mode: str, *, poison: bool) -> None:
    """What is computed, with or without stale output keys of another dtype lying in the input."""
    trace.phase = PHASES[mode]
    _, out = _call(subject, scene, mode, poison)
    for key in (BPTT, BATCH, *_outputs(scene, mode, subject)):
        trace.record(key, out[key])


_FORMS = {
    "nothing": "without dones, truncateds, training_env_id_start and memory, all of them are 0",
    "float32": "flags and memory may come in any float dtype",
}


def _given(subject: Subject, trace: Trace, scene: Scene, mode: str, form: str) -> None:
    """What is computed where everything optional is zeros, is left out, or is of another dtype."""
    trace.phase = PHASES[mode]
    td, action = scene.training(subject)
    if mode != "training":
        td = scene.at(0, subject, env_id=0) if mode == "inference" else scene.sequence(subject, env_id=0)
    for key in [key for key in td.keys() if key != ENV_OBS]:  # noqa: SIM118 - a TensorDict is no mapping
        td[key] = torch.zeros_like(td[key])
        if form == "float32" and key != ENV_ID_START:
            td[key] = td[key].to(torch.float32)
    given = td.select(ENV_OBS) if form == "nothing" else td
    if mode == "training":  # a state that fits is there, and not asked for
        with torch.no_grad():
            subject.policy(scene.at(0, subject))
    seed_global(5)
    out = subject.policy(given, action=action if mode == "training" else None)
    for key in _outputs(scene, mode, subject):
        trace.record(key, out[key])


CHECK = Check(
    name="fields",
    summary="keys, shapes, dtypes, batch size, bptt, batch; input untouched; nothing read back; misuse refused",
    examples=lambda pair, recordings: scenes(recordings, batch=(1, 3), steps=(1, 3)),
    judge=_judge,
    needs=frozenset({"fields"}),
    share=0.4,
)

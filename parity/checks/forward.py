"""forward: every component's output, and every output of the policy, in inference and in training mode."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase

from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    ENTROPY,
    ENV_OBS,
    FULL_LOG_PROBS,
    VALUE,
    VALUES,
)
from parity.checks.case import Case
from parity.checks.draw import Scene, open_scene, scenes
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example)

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "forward"
        td, action = scene.training(subject)
        record_training(subject.policy(td, action=action), trace)
        trace.phase = "rollout"
        with torch.no_grad():
            for step in range(scene.steps):
                trace.step = step
                record_inference(subject.policy(scene.at(step, subject)), trace)
            trace.step = None
            trace.phase = "sequence"
            subject.policy.reset_memory()
            record_inference(subject.policy(scene.sequence(subject)), trace)

    case.parity(program, scene.sides, probe=True)
    if case.pair.described:  # the check `fields` asks this of policies that keep the TensorDict contract
        case.facts(lambda subject: _left_alone(subject, scene), {"input": "left alone"}, scene.sides, phase="rollout",
                   cause="what is stored for training is changed with it: clone an observation before changing it in "
                   "place")  # fmt: skip


def _left_alone(subject: Subject, scene: Scene) -> dict[str, str]:
    td = scene.at(0, subject)
    before = td[ENV_OBS].clone()
    with torch.no_grad():
        subject.copy().policy(td)
    same = before == td[ENV_OBS]
    return {"input": "left alone" if bool(same.all()) else "changed"}


def largest_log_prob(td: TensorDictBase) -> float:
    """The largest log-prob by size, less those of masked actions, which are -inf."""
    sizes = td[FULL_LOG_PROBS].detach().abs()
    return float(sizes[torch.isfinite(sizes)].max()) if bool(torch.isfinite(sizes).any()) else 0.0


def record_training(td: TensorDictBase, trace: Trace) -> None:
    """Record what training mode returns; a log-prob's rounding comes from the largest one it is normalised with."""
    scale = largest_log_prob(td)
    trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS], scale=scale)
    trace.record(ACT_LOG_PROB, td[ACT_LOG_PROB], scale=scale)
    trace.record(ENTROPY, td[ENTROPY], scale=scale)
    trace.record(VALUE, td[VALUE])


def record_inference(td: TensorDictBase, trace: Trace) -> None:
    """Record what inference returns; the sampled action and its log-prob may flip beside a tie in narrow types."""
    scale = largest_log_prob(td)
    trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS], scale=scale)
    trace.record(VALUES, td[VALUES])
    trace.record(ACTIONS, td[ACTIONS], judged="sampled")
    trace.record(ACT_LOG_PROB, td[ACT_LOG_PROB], judged="sampled", scale=scale)


CHECK = Check(
    name="forward",
    summary="encoder, core, logits, values, log-probs and entropy, component by component",
    examples=lambda pair, recordings: scenes(
        # convolutions need some cells, tokens none: one cell a side is the narrowest there is
        recordings,
        any_environment=True,
        many_rows=True,
        pair=pair,
        narrowest=1 if "token_observations" in pair.capabilities else 11,
    ),
    judge=_judge,
    dtypes=("float64", "float32"),
    share=1.0,
)

"""metamorphic: changes of the input that must not change the result, or must change it in a known way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from tensordict import TensorDict, TensorDictBase

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, PADDING_BYTE, VALUES
from parity.checks.case import Case, Program
from parity.checks.draw import SEEDS, Scene, open_scene, scenes
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    return st.fixed_dictionaries(
        {
            "scene": scenes(recordings, batch=(2, 4), steps=(2, 4), pair=pair),
            "shuffle": SEEDS,
            "padding": st.sampled_from([40, 1]),  # few, because each is built once and kept
            "cut": st.integers(1, 3),
        }
    )


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example["scene"])
    plain = _program(lambda subject: [scene.sequence(subject)])
    generator = torch.Generator().manual_seed(example["shuffle"])
    if "tokens" in case.pair.capabilities:
        tokens = torch.randperm(scene.observations.shape[2], generator=generator)
        _judge_tokens(case, scene, plain, tokens, example["padding"])
    rows = torch.randperm(scene.batch, generator=generator)
    cut_rows = min(example["cut"], scene.batch - 1)
    cut_steps = min(example["cut"], scene.steps - 1)
    case.contract(
        _program(lambda subject: [scene.sequence(subject)], order=rows),
        _program(lambda subject: [scene.sequence(subject)[rows.to(subject.device)]]),
        scene.sides,
        cause="a row's result must not depend on its place in the batch",
    )
    case.contract(
        plain,
        _split(scene, cut_rows),
        scene.sides,
        cause="a row's result must not depend on which rows share its batch",
    )
    case.contract(
        plain,
        _program(lambda s: [scene.sequence(s)[:, :cut_steps], scene.sequence(s)[:, cut_steps:]]),
        scene.sides,
        cause="a sequence in two chunks must be the whole sequence: the state carried between them differs",
    )


def _judge_tokens(case: Case, scene: Scene, plain: Program, order: torch.Tensor, padding: int) -> None:
    """Rows of tokens: their order and how many are padding must not matter."""

    def reordered(subject: Subject) -> list[TensorDictBase]:
        td = scene.sequence(subject)
        td[ENV_OBS] = td[ENV_OBS][:, :, order.to(subject.device)]
        return [td]

    case.contract(plain, _program(reordered), scene.sides, cause="the order of a row's tokens must not matter")
    case.contract(plain, _padded(case, scene, padding), scene.sides, cause="more padding must not change a result")


def _program(make: Callable[[Subject], list[TensorDictBase]], order: torch.Tensor | None = None) -> Program:
    """Run the TensorDicts that ``make`` returns one after the other, their results joined along time."""

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        outs = [subject.policy(td) for td in make(subject)]
        for key in (FULL_LOG_PROBS, VALUES):
            value = torch.cat([td[key] for td in outs], dim=1)
            trace.record(key, value if order is None else value[order.to(value.device)])

    return program


def _split(scene: Scene, cut: int) -> Program:
    """The batch in two parts, each with a memory of its own."""

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        outs = []
        for part in (slice(0, cut), slice(cut, None)):
            subject.policy.reset_memory()
            outs.append(subject.policy(scene.sequence(subject)[part]))
        for key in (FULL_LOG_PROBS, VALUES):
            trace.record(key, torch.cat([td[key] for td in outs], dim=0))

    return program


def _padded(case: Case, scene: Scene, extra: int) -> Program:
    """The same tokens in longer rows, in a policy built for such rows on the same weights."""

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        environment = subject.recipe.environment
        longer = dataclasses.replace(environment, num_tokens=environment.num_tokens + extra)
        recipe = dataclasses.replace(subject.recipe, environment=longer)
        other = getattr(case.builds.sides(recipe, None), subject.side).copy()
        other.policy.load_state_dict(subject.policy.state_dict())
        td = scene.sequence(subject)
        padding = torch.full((*td.batch_size, extra, 3), PADDING_BYTE, dtype=torch.uint8, device=subject.device)
        # put in front, so that a policy that only looks at the first tokens is found out
        values = {**dict(td.items()), ENV_OBS: torch.cat([padding, td[ENV_OBS]], dim=2)}
        out = other.policy(TensorDict(values, batch_size=td.batch_size))
        for key in (FULL_LOG_PROBS, VALUES):
            trace.record(key, out[key])

    return program


CHECK = Check(
    name="metamorphic",
    summary="token order, padding length, batch permutation, batch split, time chunking",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"independent_rows"}),
    share=0.4,
)

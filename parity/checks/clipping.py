"""clipping: which weights are clipped and to what bound, when, and the l2-init loss that pulls to the same start."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st

from parity.checks.case import Case
from parity.checks.draw import SEEDS, WEIGHTS, sized
from parity.checks.oracles.clipping import clipped, l2_distance
from parity.checks.registry import Check, Example
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recipe, Recording
from parity.pairs.subjects import Sides, Subject

SCALES = [1.0, 0.5, 2.0, 0.0]
_OUT = 3.0  # moves re-based weights so far that most bounds are passed
#: The pair's own sizes come first; every example builds anew, which large sizes make dear.
_SIZES = st.sampled_from(["default", *["varied"] * 9])


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    if "configuration" not in pair.capabilities:
        return st.fixed_dictionaries({"weights": WEIGHTS, "seed": SEEDS})
    names = list(dict.fromkeys(pair.layers.values()))
    # every layer gets its own, so that each example shows a scale that never arrived
    # and its own order of them, so that the simplest example, which comes first, has them differ as well
    scales = st.fixed_dictionaries(
        {name: st.sampled_from(SCALES[number % 4 :] + SCALES[: number % 4]) for number, name in enumerate(names)}
    )
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "sizes": _SIZES,
            "seed": SEEDS,
            "clip_range": st.sampled_from([0.5, 0.1, 1.0, 0.0]),
            "clip_scales": scales,
            "l2_scales": scales,
        }
    )


def _recipe(case: Case, example: Example) -> Recipe:
    base = sized(case.recipe(seed=example["seed"]), case.pair, example["sizes"])
    components: dict[str, Any] = copy.deepcopy(dict(base.config.components))
    for key, scales in (("clip_scale", example["clip_scales"]), ("l2_init_scale", example["l2_scales"])):
        for name, value in scales.items():
            components[name][key] = value
    config = dataclasses.replace(base.config, components=components, clip_range=example["clip_range"])
    return dataclasses.replace(base, config=config)


def _judge(case: Case, example: Example) -> None:
    if "configuration" not in case.pair.capabilities:  # bounds and scales are a policy's own affair
        sides = case.builds.sides(case.recipe(seed=example["seed"]), example["weights"])
        return case.parity(lambda subject, trace: _clipped(case, subject, trace), sides)
    recipe = _recipe(case, example)
    fresh = case.builds.sides(recipe, None)
    initial = {name: value.detach().clone() for name, value in fresh.reference.policy.named_parameters()}
    sides = case.builds.sides(recipe, example["weights"])
    scales = {
        name: tuple(float(recipe.config.components[home].get(key, 1.0)) for key in ("clip_scale", "l2_init_scale"))
        for name, home in case.pair.layers.items()
    }
    _clip(case, example, sides, initial, scales)
    _pull(case, example, sides, initial, scales)


Scales = Mapping[str, tuple[float, ...]]
"""Reference weight -> (clip_scale, l2_init_scale); what is not in it is neither clipped nor pulled."""


def _clip(
    case: Case,
    example: Example,
    sides: Sides,
    initial: dict[str, torch.Tensor],
    scales: Scales,
) -> None:
    """Judge what is clipped on both sides, and each side by the formula."""

    def program(subject: Subject, trace: Trace) -> None:
        _clipped(case, subject, trace)

    def expected(subject: Subject, trace: Trace) -> None:
        trace.phase = "clip"
        values = subject.to_reference({k: v.detach().clone() for k, v in subject.policy.named_parameters()})
        for round_number in range(3):
            trace.step = round_number
            for name, value in values.items():
                start = value * (3.0 + round_number) if round_number < 2 else value
                bound = example["clip_range"] * scales.get(name, (0.0,))[0]
                values[name] = clipped(start, initial[name].to(start), bound)
                trace.record(name, values[name], component=case.pair.home(name))

    case.parity(program, sides)
    if case.dtype == torch.float64:
        case.contract(expected, program, sides)


def _clipped(case: Case, subject: Subject, trace: Trace) -> None:
    """Move the weights out and clip, twice: a bound that is re-based by the first shows in the second."""
    trace.phase = "clip"
    for round_number in range(3):
        trace.step = round_number
        if round_number < 2:  # the third shows that clipping is idempotent
            with torch.no_grad():
                for value in subject.policy.parameters():
                    value.mul_(3.0 + round_number)
        subject.policy.clip_weights()
        _record(case, subject, trace)


def _record(case: Case, subject: Subject, trace: Trace) -> None:
    for name, value in subject.to_reference(dict(subject.policy.named_parameters())).items():
        trace.record(name, value, component=case.pair.home(name))


def _pull(
    case: Case,
    example: Example,
    sides: Sides,
    initial: dict[str, torch.Tensor],
    scales: Scales,
) -> None:
    """The l2-init loss and its gradient, before and after the start is re-based on other weights and these clipped.

    What re-basing does to the bounds, and what clipping does to the start, shows in the loss after both.
    """

    def program(subject: Subject, trace: Trace) -> None:
        for round_number in range(2):
            trace.step, trace.phase = round_number, "forward"
            subject.policy.zero_grad()
            loss = subject.policy.l2_init_loss()
            trace.record("l2_init_loss", loss)
            trace.phase = "backward"
            trace.fact("l2_init_loss is differentiable", loss.requires_grad)
            if loss.requires_grad:
                loss.backward()
            _record_gradients(case, subject, trace)
            if round_number == 0:
                with torch.no_grad():
                    for value in subject.policy.parameters():
                        value.mul_(0.9)
                subject.policy.update_l2_init_weight_copy()
                with torch.no_grad():
                    for value in subject.policy.parameters():
                        value.mul_(_OUT)
                subject.policy.clip_weights()

    def expected(subject: Subject, trace: Trace) -> None:
        start = {name: value.to(subject.dtype) for name, value in initial.items()}
        weights = subject.to_reference({k: v.detach().clone() for k, v in subject.policy.named_parameters()})
        for round_number in range(2):
            trace.step, trace.phase = round_number, "forward"
            loss, gradients = l2_distance(weights, start, {name: scales.get(name, (0.0, 0.0))[1] for name in weights})
            trace.record("l2_init_loss", loss)
            trace.phase = "backward"
            trace.fact("l2_init_loss is differentiable", True)
            for name, value in gradients.items():
                trace.record(name, value, component=case.pair.home(name))
            start = {name: value * 0.9 for name, value in weights.items()}
            weights = {
                name: clipped(
                    value * _OUT, initial[name].to(value), example["clip_range"] * scales.get(name, (0.0,))[0]
                )
                for name, value in start.items()
            }

    case.parity(program, sides)
    if case.dtype == torch.float64:
        case.contract(expected, program, sides)


def _record_gradients(case: Case, subject: Subject, trace: Trace) -> None:
    raw = {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in subject.policy.named_parameters()
    }
    for name, value in subject.to_reference(raw).items():
        trace.record(name, value, component=case.pair.home(name))


CHECK = Check(
    name="clipping",
    summary="what is clipped, to what bound, idempotent, off at 0; the l2-init loss, its gradient and re-basing",
    examples=_examples,
    judge=_judge,
    dtypes=("float64", "float32"),
    needs=frozenset({"clipping"}),
    share=0.5,
)

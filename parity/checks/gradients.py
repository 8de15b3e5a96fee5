"""gradients: every parameter's gradient, and the gradient at every component's output, in backward order."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, FULL_LOG_PROBS, VALUE
from parity.checks.case import Case
from parity.checks.draw import open_scene, scenes
from parity.checks.registry import Check, Example
from parity.compare.bounds import BOUNDS, rms
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example)
    components = {link.name: link.reference for link in case.pair.components}

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "forward"
        td, action = scene.training(subject)
        out = subject.policy(td, action=action)
        loss, steepest = _loss(out, example["seed"])
        trace.phase = "backward"
        trace.independent = out[FULL_LOG_PROBS].numel()  # every gradient of the actor's path comes through these
        trace.fact("loss requires gradient", loss.requires_grad)
        if loss.requires_grad:
            loss.backward()
        record_gradients(subject, trace, components, steepest)

    case.parity(program, scene.sides, probe=True)


def _loss(out: TensorDictBase, seed: int) -> tuple[Tensor, float]:
    """A scalar that weighs every output element differently, so that no two errors cancel; and the largest weight."""
    total: Tensor | None = None
    largest = 0.0
    for number, key in enumerate((ACT_LOG_PROB, ENTROPY, VALUE, FULL_LOG_PROBS)):
        value: Tensor = out[key]
        generator = torch.Generator().manual_seed(seed + 101 * number)
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        term = (value * weight.to(value)).sum()
        largest = max(largest, float(weight.abs().max()))
        total = term if total is None else total + term
    assert total is not None
    return total, largest


def record_gradients(subject: Subject, trace: Trace, components: dict[str, str], steepest: float | None = None) -> None:
    """Record gradients from the loss backwards: per component, at its output, then its parameters'.

    A parameter that got no gradient at all is another matter than one whose gradient is 0: no optimizer decays it.
    Null gradients (pure rounding) are given an absolute bound. ``steepest`` is the largest gradient at an output, which
    bounds the rounding of a gradient that is a single number: such a sum may come to exactly 0 in every rerun by luck.
    """
    named = dict(subject.policy.named_parameters())
    raw = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in named.items()}
    gradients = subject.to_reference(raw)
    reached = {name: torch.full_like(value, value.grad is not None) for name, value in named.items()}
    missed = {name for name, value in subject.to_reference(reached).items() if not bool(value.all())}
    largest = max((rms(value) for value in gradients.values()), default=0.0)
    rest = dict(gradients)
    for component, path in reversed(components.items()):
        if trace.probes is not None:
            trace.probes.record_gradients(component)
        for name in [name for name in rest if name.startswith(f"{path}.")]:
            trace.fact(f"{name} gets a gradient", name not in missed, component=component)
            _record(trace, name, rest.pop(name), component, largest, steepest)
    for name, value in rest.items():
        trace.fact(f"{name} gets a gradient", name not in missed, component=name)
        _record(trace, name, value, name, largest, steepest)


def _record(trace: Trace, name: str, value: Tensor, component: str, largest: float, steepest: float | None) -> None:
    null = rms(value) < BOUNDS.null_gradient * largest
    absolute = BOUNDS.null_gradient * largest if null and value.dtype == torch.float64 else None
    scale = max(steepest, rms(value)) if steepest is not None and value.numel() == 1 else None
    trace.record(name, value, component=component, absolute=absolute, scale=scale)


CHECK = Check(
    name="gradients",
    summary="every parameter's gradient and the gradient at every component's output",
    examples=lambda pair, recordings: scenes(recordings, pair=pair, long=True),
    judge=_judge,
    dtypes=("float64", "float32"),
    needs=frozenset({"gradients"}),
    share=0.6,
)

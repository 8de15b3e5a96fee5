"""device: a GPU moves the candidate's numbers no further from the CPU's than it moves the reference's."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, FULL_LOG_PROBS, VALUE
from parity.checks.case import Case
from parity.checks.draw import Scene, open_scene, scenes
from parity.checks.forward import record_training
from parity.checks.gradients import record_gradients
from parity.checks.registry import Check, Example
from parity.compare.bounds import BOUNDS, rms
from parity.compare.judge import Outcome
from parity.compare.probes import Probes
from parity.compare.trace import Entry, Place, Trace
from parity.compare.verdict import Divergence, DivergenceFound, Inconclusive, Misuse, Rung
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject

#: How the second device computes, and the rounding of its coarsest operation; inputs and sums stay float32.
MODES = {"strict": torch.finfo(torch.float32).eps, "tf32": 2.0**-10, "bf16": torch.finfo(torch.bfloat16).eps}


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    scene = scenes(recordings, batch=(2, 4), steps=(2, 4), pair=pair)
    return st.fixed_dictionaries({"scene": scene, "mode": st.sampled_from(list(MODES))})


def _judge(case: Case, example: Example) -> None:
    at_home = open_scene(dataclasses.replace(case, device="cpu"), example["scene"])
    away, mode = open_scene(case, example["scene"]), example["mode"]
    reference, candidate = (
        Moved(
            _run(case, at_home, getattr(at_home.sides, side), "strict"),
            _run(case, away, getattr(away.sides, side), mode),
        )
        for side in ("reference", "candidate")
    )

    def rerun(number: int) -> Trace:
        return _run(case, at_home, at_home.sides.reference.twin(number), "strict")

    outcome = judge_moves(reference, candidate, rerun, grain=MODES[mode] / MODES["strict"])
    case.outcome.absorb(outcome)
    if outcome.divergence is not None:
        note = f"{case.device} against cpu, {mode} arithmetic"
        found = dataclasses.replace(
            outcome.divergence,
            candidate_component=case.pair.paths("candidate").get(outcome.divergence.component, ""),
            notes=(*outcome.divergence.notes, note),
        )
        raise DivergenceFound(found)


def _run(case: Case, scene: Scene, subject: Subject, mode: str) -> Trace:
    """The training forward and all gradients, every component probed."""
    subject, trace = subject.copy(), Trace()
    components = {link.name: link.reference for link in case.pair.components}
    probes = Probes(subject.policy, case.pair.paths(subject.side), trace, copy=True)
    try:
        with _quiet(subject.device), probes, _arithmetic(subject.device, mode):
            trace.probes = probes
            td, action = scene.training(subject)
            out = subject.policy(td, action=action)
            record_training(out, trace)
            if "gradients" not in case.pair.capabilities:
                return trace
            trace.phase, trace.independent = "backward", out[FULL_LOG_PROBS].numel()
            keys = (ACT_LOG_PROB, ENTROPY, VALUE, FULL_LOG_PROBS)
            torch.stack([(out[key].float() ** 2).sum() for key in keys]).sum().backward()
            record_gradients(subject, trace, components)
    except Exception as error:
        what = f"raises {type(error).__name__} on {subject.device} ({mode}): {error}"
        if subject.side == "reference":
            raise Misuse(f"the reference {what}; a pair needs a reference that runs on every device") from error
        component = probes.active[-1] if probes.active else "policy"
        raise DivergenceFound(
            Divergence("raised", trace.phase, component, type(error).__name__, reference="completes", candidate=what,
                       candidate_component=case.pair.paths(subject.side).get(component, ""), rung=Rung.BITS)
        ) from error  # fmt: skip
    return trace


@contextmanager
def _quiet(device: str) -> Iterator[None]:
    """The same random numbers in every run, and no word of warning."""
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


@contextmanager
def _arithmetic(device: str, mode: str) -> Iterator[None]:
    backends: Any = torch.backends
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = mode == "tf32"
    try:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=mode == "bf16"):
            yield
    finally:
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class Moved:
    """One side's traces on the CPU and on the second device."""

    home: Trace
    away: Trace
    gaps: dict[Place, float] = field(default_factory=dict)

    def gap(self, place: Place) -> float:
        """Rms distance of one leaf between the two devices."""
        if place not in self.gaps:
            mine, other = (trace.entries[place].value.detach().cpu().double() for trace in (self.home, self.away))
            self.gaps[place] = rms(mine - other)
        return self.gaps[place]


def judge_moves(reference: Moved, candidate: Moved, rerun: Callable[[int], Trace], *, grain: float = 1.0) -> Outcome:
    """Judge how far the second device moves each of the candidate's leaves by how far it moves the reference's.

    The allowed ratio is ``BOUNDS.noise_limit``: 2, and more for leaves of few numbers. A device may leave one of the
    reference's leaves as it is by luck, so what ulp-moved reruns of it on the CPU come to counts as moved too.

    Args:
        reference: its traces.
        candidate: its traces, of the same run.
        rerun: makes the reference's trace on the CPU with weights and inputs moved by one ulp.
        grain: the second device's rounding / the CPU's.

    Raises:
        Inconclusive: the reference is not finite on one of the devices.
    """
    outcome = Outcome(Rung.DEVICE)
    reruns: list[Trace] = []
    for place, entry in reference.home:
        if not isinstance(entry.value, Tensor) or place not in reference.away.entries:
            continue
        if not entry.from_probe or place in candidate.home.entries:  # probed calls may differ in number
            problem = _first_problem(place, reference, candidate)
            if problem is not None:
                outcome.divergence = problem
                return outcome
            moved, limit = reference.gap(place), BOUNDS.noise_limit(_numbers(entry))
            if candidate.gap(place) > limit * moved and not reruns:
                reruns = [rerun(number) for number in range(BOUNDS.noise_reruns)]
            twins = [trace.entries[place].value - entry.value for trace in reruns if entry.value.is_floating_point()]
            floor = max(moved, grain * max(map(rms, twins), default=0.0))
            if candidate.gap(place) > limit * floor:
                outcome.divergence = _too_far(place, reference, candidate, floor, limit)
                return outcome
            margin = candidate.gap(place) / (limit * floor) if floor else 0.0
            if margin > outcome.margin:
                outcome.margin, outcome.margin_place = margin, f"{place.component}/{place.key}"
    return outcome


def _numbers(entry: Entry) -> int:
    return min(entry.value.numel(), entry.independent or entry.value.numel())


def _first_problem(place: Place, reference: Moved, candidate: Moved) -> Divergence | None:
    """What keeps a leaf's gap from being measured."""
    values = {
        (side, where): getattr(trace, where).entries.get(place)
        for side, trace in (("reference", reference), ("candidate", candidate))
        for where in ("home", "away")
    }
    expected, away = values["reference", "away"], values["candidate", "away"]
    for (side, where), entry in values.items():
        if entry is None:
            return _plain(place, "structure", "present", f"missing {where} on the {side}")
        if not bool(torch.isfinite(entry.value).all()):
            if side == "reference":
                raise Inconclusive(f"the reference's {place.key} of {place.component} is not finite ({where})")
            return _plain(place, "non_finite", "finite", f"not finite ({where})")
    assert expected is not None and away is not None
    mine, theirs = ((value.value.device.type, tuple(value.value.shape)) for value in (expected, away))
    return None if mine == theirs else _plain(place, "structure", mine, theirs)


def _plain(place: Place, kind: str, reference: object, candidate: object) -> Divergence:
    return Divergence(kind if kind == "structure" else "fact", place.phase, place.component, place.key, step=place.step,
                      reference=reference, candidate=candidate, rung=Rung.DEVICE)  # fmt: skip


def _too_far(place: Place, reference: Moved, candidate: Moved, floor: float, limit: float) -> Divergence:
    found = candidate.gap(place) / floor if floor else float("inf")
    return Divergence(
        kind="fact",
        phase=place.phase,
        component=place.component,
        key=f"rms distance of {place.key} between the devices",
        step=place.step,
        shape=tuple(reference.home.entries[place].value.shape),
        reference=reference.gap(place),
        candidate=candidate.gap(place),
        measured=found,
        allowed=limit,
        rung=Rung.DEVICE,
        notes=(f"{found:.3g} times what the reference's own rounding comes to; allowed {limit:g}",),
    )


CHECK = Check(
    name="device",
    summary="cpu = cuda by the 2x2 rule: forward and gradients; TF32 off and on, bf16 autocast",
    examples=_examples,
    judge=_judge,
    dtypes=("float32",),
    share=0.5,
    devices=("cuda",),
)

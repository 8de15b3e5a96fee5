"""What a user adds with a decorator: checks, values to watch, faults."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parity.agents.interface import ENV_OBS
from parity.checks.case import Case
from parity.checks.draw import open_scene, scenes
from parity.checks.registry import Check, Example, add_check
from parity.compare.trace import Trace
from parity.compare.verdict import Misuse
from parity.compare.watched import Watched, add_watched
from parity.faults.plant import Patcher
from parity.faults.registry import add_fault
from parity.pairs.subjects import Subject

Record = Callable[..., None]
"""``record(key, tensor)``; ``component=`` names a place of its own."""

_DTYPES = ("float64", "float32")


def check(
    *, name: str, needs: Collection[str] = (), dtypes: Collection[str] = _DTYPES, share: float = 0.5
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a check: ``program(policy, observation, record)`` runs on both sides, and what it records must agree.

    It is judged as everything else is: on stress weights, by bits, then float64, then the float32 noise floor, with the
    same messages and stored examples. Described pairs that declare what it needs are judged by it.

    Args:
        name: as in test ids and reports.
        needs: capabilities without which it is not applicable; own names are declared by ``pair(capabilities=...)``.
        dtypes: the dtypes it runs in.
        share: examples per example of the profile.

    Raises:
        Misuse: a check of this name is there already, or a dtype is unknown.
    """
    from parity.checks.catalogue import CHECKS

    if name in CHECKS:
        raise Misuse(f"check: {name!r} is the name of a check that ships; give it another name")
    for dtype in dtypes:
        if dtype not in _DTYPES:
            raise Misuse(f"check {name!r}: dtype {dtype!r} is unknown; there are {', '.join(_DTYPES)}")

    def declare(program: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(program)
        def judge(case: Case, example: Example) -> None:
            scene = open_scene(case, example)

            def run(subject: Subject, trace: Trace) -> None:
                trace.phase = name
                adapter = subject.policy
                seen = scene.at(0, subject)[ENV_OBS]
                with adapter.prepared(seen) as (policy, observation):
                    program(policy, observation, trace.record)

            case.parity(run, scene.sides, probe=True)
            if not case.recorded:
                raise Misuse(f"check {name!r} recorded nothing, so it proves nothing; call record(key, tensor) in it")

        doc = (program.__doc__ or "").strip().partition("\n")[0]
        summary = doc or f"what {program.__name__} records"
        strategy = lambda pair, recordings: scenes(recordings, steps=(1, 1), pair=pair)  # noqa: E731
        add_check(Check(name, summary, strategy, judge, tuple(dtypes), frozenset(needs), share, own=True))
        return program

    return declare


def probe(
    *, pair: str, component: str = "", name: str = ""
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Watch a value that no hook sees: ``read(policy)`` is called after each call of the policy, or of a component.

    What it returns is compared wherever outputs of components are, and named as a component of its own.

    Args:
        pair: the pair's name.
        component: the component after whose calls it is read; left out, the policy's.
        name: how reports name it; the function's name if left out.
    """

    def declare(read: Callable[..., Tensor]) -> Callable[..., Tensor]:
        add_watched(Watched(pair, name or read.__name__, component, read))
        return read

    return declare


def fault(
    *,
    pair: str,
    check: str,
    component: str,
    phase: str,
    place: Literal["candidate", "reference"] = "candidate",
    origin: str = "",
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Declare a bug that must be found: ``plant(policy)`` changes a policy in place, which was built for it.

    Args:
        pair: the pair's name.
        check: the check that must find it.
        component: where it must be pinned.
        phase: in which phase.
        place: the side it is planted on.
        origin: where it happened.
    """

    def declare(plant: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(plant)
        def patch(patcher: Patcher) -> None:
            patcher.built(place, lambda adapter: _planted(adapter, plant))

        add_fault(pair, patch, origin=origin, check=check, component=component, phase=phase, place=place)
        return plant

    return declare


def _planted(adapter: Any, plant: Callable[[Any], None]) -> None:
    found: Any = plant(adapter.policy)
    if isinstance(found, nn.Module):
        raise Misuse(f"fault {plant.__name__!r} returned a module; change the policy it is given in place")
    with torch.no_grad():
        adapter.to(adapter.device)

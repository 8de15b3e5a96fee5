"""throughput: the candidate's steps per second and memory, as ratios to the reference's measured beside it."""

from __future__ import annotations

import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict
from torch.profiler import ProfilerActivity, profile

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, ENV_OBS, VALUE
from parity.checks.case import Case
from parity.checks.draw import SEEDS, WEIGHTS, legal_actions
from parity.checks.registry import Check, Example
from parity.compare.judge import Outcome
from parity.compare.verdict import Divergence, DivergenceFound, Rung
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject

ROWS, BATCH, STEPS = 64, 4, 8
#: The candidate may take this much longer. Single times scatter by a tenth on a busy machine, medians of neighbours by
#: a hundredth; only what is over in every round counts.
SLOWER = 1 / 0.95
ROUNDS, TURNS, WARM_UP = 3, 5, 1
#: It may hold this much more. Peaks repeat to the byte; a policy keeps some bytes of its own for its shapes.
LARGER = 1.02
#: Further calls, each of which may leave something behind.
CALLS = 4


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    return st.fixed_dictionaries({"weights": WEIGHTS, "seed": SEEDS})


def _judge(case: Case, example: Example) -> None:
    sides = case.builds.sides(case.recipe(), example["weights"])
    loads = [Load(case.pair, subject, example["seed"]) for subject in (sides.reference, sides.candidate)]
    devices = [] if case.device == "cpu" else [case.device]
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings(), _no_collection():
        warnings.simplefilter("ignore")
        _compare(case, loads)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected where measuring says so, for a walk over the whole heap takes longer than what is timed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _compare(case: Case, loads: list[Load]) -> None:
    for name, run in MEASURES.items():
        for _ in range(WARM_UP):
            for load in loads:
                run(load)
        (peak, left), (other_peak, other_left) = (memory(load, run) for load in loads)
        for key, found, allowed in (
            ("time per call", slowness(loads, run), SLOWER),
            ("peak memory", Found(peak, other_peak, "bytes"), LARGER),
            ("memory that every call leaves behind", Found(left, other_left, "bytes"), 1.0),
        ):
            if found.ratio > allowed:
                raise DivergenceFound(_divergence(case, loads, run, name, key, found, allowed))
            if found.candidate:
                margin = found.ratio / allowed
                case.outcome.absorb(Outcome(Rung.NOISE_FLOOR, margin, margin_place=f"{name}/{key}"))


class Load:
    """One side with input for up to 64 rows, on the device under test."""

    def __init__(self, pair: Pair, subject: Subject, seed: int) -> None:
        subject = subject.copy()
        environment = subject.recipe.environment
        self._gradients = "gradients" in pair.capabilities
        self.policy, self.device = subject.policy, subject.device
        self.components = {name: self.policy.get_submodule(path) for name, path in pair.paths(subject.side).items()}
        self._observations = pair.generate(environment, rows=ROWS, seed=seed).to(self.device)
        self._actions = legal_actions(environment, (BATCH, STEPS), seed).to(self.device)

    @torch.no_grad()
    def act(self) -> None:
        """Inference ``[64]``, one step after the other."""
        self.policy(TensorDict({ENV_OBS: self._observations.clone()}, batch_size=[ROWS]))

    def learn(self) -> None:
        """Training ``[4 x 8]``, forward and, for a policy that has gradients, backward."""
        rows = self._observations[: BATCH * STEPS].clone().unflatten(0, (BATCH, STEPS))
        self.policy.zero_grad(set_to_none=True)
        out = self.policy(TensorDict({ENV_OBS: rows}, batch_size=[BATCH, STEPS]), action=self._actions)
        if self._gradients:
            torch.stack([out[key].sum() for key in (ACT_LOG_PROB, VALUE, ENTROPY)]).sum().backward()

    def clock(self) -> float:
        """Seconds of this process's own work, which other processes do not lengthen; of time, on a GPU."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


Run = Callable[[Load], None]
MEASURES: Mapping[str, Run] = {
    f"inference [{ROWS}]": Load.act,
    f"training [{BATCH} x {STEPS}]": Load.learn,
}


@dataclass(frozen=True)
class Found:
    """What was measured of both sides."""

    reference: float
    candidate: float
    unit: str
    median: float | None = None  # of the ratios of neighbours, where there are several

    @property
    def ratio(self) -> float:
        """Candidate's / reference's; 1 when neither has any."""
        if self.median is not None:
            return self.median
        return 1.0 if self.candidate == self.reference else self.candidate / max(self.reference, 1)

    def of(self, side: str) -> str:
        """One side's number for a person."""
        value = getattr(self, side)
        return f"{1000 * value:.3g} ms" if self.unit == "s" else f"{value / 1024:,.0f} KiB"


def slowness(loads: list[Load], run: Run) -> Found:
    """Candidate's time / reference's: the best of some rounds, for a machine can only make it look worse."""
    best: Found | None = None
    for _ in range(ROUNDS):
        times: tuple[list[float], list[float]] = [], []
        for turn in range(TURNS):
            for side in (0, 1) if turn % 2 else (1, 0):
                start = loads[side].clock()
                run(loads[side])
                times[side].append(loads[side].clock() - start)
        ratio = statistics.median(own / other for other, own in zip(*times, strict=True))
        found = Found(statistics.median(times[0]), statistics.median(times[1]), "s", ratio)
        best = found if best is None or found.ratio < best.ratio else best
        if best.ratio <= SLOWER:
            break
    assert best is not None
    return best


def memory(load: Load, run: Run) -> tuple[int, int]:
    """Bytes of tensors: the most that live at once during a call, and what each call leaves behind for good."""
    peak, once = _allocated(load, run, 1)
    _, often = _allocated(load, run, 1 + CALLS)
    return peak, (often - once) // CALLS


def _allocated(load: Load, run: Run, calls: int) -> tuple[int, int]:
    """Bytes of tensors that calls allocate: the most that lived at once, and what still lives after them."""
    if load.device != "cpu":
        before = torch.cuda.memory_allocated(load.device)
        torch.cuda.reset_peak_memory_stats(load.device)
        for _ in range(calls):
            run(load)
        gc.collect(0)  # of what the calls made; older things are in older generations
        peak, now = torch.cuda.max_memory_allocated(load.device), torch.cuda.memory_allocated(load.device)
        return peak - before, now - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler's library writes to stderr at every start
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(calls):
            run(load)
        gc.collect(0)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        recorded = json.loads(path.read_bytes())["traceEvents"]
    events = [event["args"] for event in recorded if event.get("name") == "[memory]"]
    live: dict[int, int] = {}
    peak = held = 0
    for event in sorted(events, key=lambda event: event["Ev Idx"]):
        if event["Bytes"] > 0:
            live[event["Addr"]] = event["Bytes"]
            held += event["Bytes"]
        else:  # what was allocated before counts for nothing when it goes
            held -= live.pop(event["Addr"], 0)
        peak = max(peak, held)
    return peak, held


def _divergence(
    case: Case, loads: list[Load], run: Run, name: str, key: str, found: Found, allowed: float
) -> Divergence:
    component = name
    notes = (
        f"{found.ratio:.3g} times the reference's; allowed {allowed:.3g}"
        if found.reference
        else "the reference has none",
    )
    if found.unit == "s":
        own, other = (_times(load, run) for load in reversed(loads))
        worst = max(own, key=lambda each: own[each] - other[each], default=None)
        if worst is not None and own[worst] - other[worst] > (found.candidate - found.reference) / 2:
            component = worst
            notes += (f"of {name}; {worst} takes {1000 * own[worst]:.3g} ms, not {1000 * other[worst]:.3g}",)
    return Divergence(
        kind="fact",
        phase=CHECK.name,
        component=component,
        key=key,
        candidate_component=case.pair.paths("candidate").get(component, ""),
        reference=found.of("reference"),
        candidate=found.of("candidate"),
        measured=found.ratio,
        allowed=allowed,
        rung=Rung.NOISE_FLOOR,
        notes=notes,
    )


def _times(load: Load, run: Run) -> dict[str, float]:
    """Seconds in each component's forward, the median of a few runs."""
    started: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in load.components}

    def begin(name: str, *_: Any) -> None:
        started[name] = load.clock()

    def end(name: str, *_: Any) -> None:
        times[name][-1] += load.clock() - started[name]

    handles = []
    for name, module in load.components.items():
        handles += [
            module.register_forward_pre_hook(partial(begin, name)),
            module.register_forward_hook(partial(end, name)),
        ]
    for _ in range(TURNS):
        for own in times.values():
            own.append(0.0)
        run(load)
    for handle in handles:
        handle.remove()
    return {name: statistics.median(own) for name, own in times.items()}


CHECK = Check(
    name="throughput",
    summary="time and memory of the candidate as ratios to the reference's, side by side",
    examples=_examples,
    judge=_judge,
    dtypes=("float32",),
    needs=frozenset({"throughput"}),
    share=0.02,
)

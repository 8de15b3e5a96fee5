"""What is measured of one run beside another: how much longer it takes, and how much memory it holds at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture
from torch.profiler import ProfilerActivity, profile

WARM_UP = 3


def paired(
    benchmark: BenchmarkFixture,
    run: Callable[[], object],
    beside: Callable[[], object],
    *,
    seconds: float,
    least_rounds: int,
) -> list[float]:
    """Benchmark ``run`` with ``beside`` before and after each round, and return seconds of ``beside`` / of ``run``.

    Single times mean nothing on a shared machine, ratios of neighbours do. There are two per round, one for either
    order.

    Args:
        benchmark: pytest-benchmark's fixture, which keeps the times of ``run``.
        run: the measured side.
        beside: the side that it is measured against.
        seconds: about how long to go on.
        least_rounds: the fewest rounds, however long they take.
    """
    times: list[float] = []

    def clock_beside() -> None:
        start = time.perf_counter()
        beside()
        times.append(time.perf_counter() - start)

    for _ in range(WARM_UP):
        beside()
        run()
    start = time.perf_counter()
    beside()
    run()
    rounds = max(least_rounds, int(seconds / (time.perf_counter() - start)))
    benchmark.pedantic(run, setup=clock_beside, rounds=rounds)
    clock_beside()
    assert benchmark.stats is not None
    return neighbour_ratios(times, benchmark.stats.stats.data)


def neighbour_ratios(outer: list[float], inner: list[float]) -> list[float]:
    """Ratios outer / inner of all neighbours in the sequence outer, inner, outer, ..., outer."""
    before = [first / second for first, second in zip(outer[:-1], inner, strict=True)]
    after = [first / second for first, second in zip(outer[1:], inner, strict=True)]
    return before + after


def peak_bytes(run: Callable[[], object], folder: Path) -> int:
    """The most bytes of tensors, allocated while ``run`` runs, that lived at the same time.

    Args:
        run: called once; warm it up before.
        folder: where the profiler's trace may be written.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    trace = folder / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    live: dict[int, int] = {}
    held = peak = 0
    for event in sorted(events, key=lambda event: event["args"]["Ev Idx"]):
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        if size > 0:
            live[address] = size
            held += size
        else:  # of no size when it is from before: torch also reports what an earlier profile saw allocated
            held -= live.pop(address, 0)
        peak = max(peak, held)
    return peak

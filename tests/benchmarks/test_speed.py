"""Candidate against reference, reference against its transcription, and the cost of probing. ``make bench``.

One process, two threads, the sides by turns. Writes ``reports/bench-ratios.json`` and ``.md`` after every measure, so
that a missed target hides no figure; pytest-benchmark writes the times and their spread to ``reports/bench.json``.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from measuring import paired, peak_bytes
from pytest_benchmark.fixture import BenchmarkFixture
from transcriptions import transcribe
from transcriptions.recurrent import RecurrentActorCritic
from workloads import MEASURES, Workload, start_training, weigh

from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.platform_info import platform_info
from parity.report.files import write_json, write_text
from parity.report.ratios import to_markdown

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning"),
]

THREADS = 2
REPORTS = Path("reports")

#: The least reference seconds / candidate seconds of any measure, and of those that must be better.
LEAST_SPEED = 0.95
LEAST_SPEED_OF_ACTING = 1.1
LEAST_SPEED_OF_TRAINING: Mapping[str, float] = {
    "example": 1.7,
    "fast": 1.7,
    "latent_attn_tiny": 1.8,
    "latent_attn_small": 1.5,
    "latent_attn_med": 1.25,
}


@dataclasses.dataclass(frozen=True)
class Missed:
    """A target that is not reached: what is, less the scatter of a noisy machine, and the profile that shows why."""

    least: float
    why: str


#: They stay targets. What is reached is a bound like any other: less than it fails.
MISSED: Mapping[tuple[str, str], Missed] = {
    ("fast", "forward_backward_16x16"): Missed(
        1.5,
        "LSTM, convolution, dense layers and tanh take 9.6 of the candidate's 13.3 ms and leave no choice of kernel; "
        "1.7 asks for 0.6 ms of the other 3.6, which are many small operations",
    ),
    ("example", "forward_backward_16x16"): Missed(
        1.12,
        "the LSTM of 2 x 512 takes 38 of 57 ms, as it does in the reference, and with convolution and dense layers 53; "
        "with nothing else at all the ratio would be 1.3",
    ),
}
CLEARLY = 1.05  # above a target by more than measurements of a noisy machine scatter
MOST_MEMORY = 1.0
MOST_OVER_TRANSCRIPTION = 1.3
MOST_FOR_PROBING = 1.15
MOST_FOR_THE_TRAINER = 0.1
TRAINER_ROUNDS = 7

WITHOUT_MEMORY = {"clip", "weight_metrics"}


@pytest.fixture(scope="session", autouse=True)
def enabled(pytestconfig: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("times mean nothing beside other workers; run the benchmarks with -n0")
    for option in ("benchmark_disable", "benchmark_skip"):
        if pytestconfig.getoption(option):
            pytest.fail(f"nothing would be measured; run the benchmarks without --{option.replace('_', '-')}")


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


class Figures:
    """The ratios of this run, written whenever one is added."""

    def __init__(self) -> None:
        self.ratios: dict[str, dict[str, dict[str, float]]] = {}
        self.platform = platform_info()
        self.date = datetime.date.today().isoformat()

    def keep(self, pair: str, measure: str, **figures: float) -> None:
        rounded = {name: round(value, 3) for name, value in figures.items()}
        self.ratios.setdefault(pair, {}).setdefault(measure, {}).update(rounded)
        write_json(REPORTS / "bench-ratios.json", self.ratios)
        write_text(REPORTS / "bench-ratios.md", to_markdown(self.ratios, self.platform, self.date))


@pytest.fixture(scope="module")
def figures(threads: None) -> Figures:
    return Figures()


@dataclasses.dataclass(frozen=True)
class Sides:
    pair: Pair
    reference: Workload
    candidate: Workload


@pytest.fixture(scope="module", params=registered_pairs())
def sides(request: pytest.FixtureRequest) -> Sides:
    pair = registered_pairs()[request.param]
    clipped = dataclasses.replace(pair.recipe.config, clip_range=0.5)  # or clipping would do nothing
    built = Builds(pair).sides(dataclasses.replace(pair.recipe, config=clipped))
    return Sides(pair, Workload(pair, built.reference), Workload(pair, built.candidate))


@pytest.fixture
def ratio(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Callable[..., float]:
    """The median over neighbouring runs of the second's seconds / the first's, spread and all kept in bench.json."""

    def measure(run: Callable[[], object], beside: Callable[[], object], /, **info: Any) -> float:
        ratios = paired(
            benchmark,
            run,
            beside,
            seconds=float(pytestconfig.option.benchmark_max_time),
            least_rounds=pytestconfig.option.benchmark_min_rounds,
        )
        low, middle, high = statistics.quantiles(ratios, n=4)
        benchmark.extra_info.update(info, ratio_p25=low, ratio_median=middle, ratio_p75=high)
        return middle

    return measure


@pytest.mark.parametrize("measure", MEASURES)
def test_the_candidate_is_no_slower_and_no_larger(sides, measure, ratio, figures, tmp_path):
    run = MEASURES[measure]
    reference, candidate = partial(run, sides.reference), partial(run, sides.candidate)
    found = {"speed": ratio(candidate, reference, run="candidate", beside="reference")}
    if measure not in WITHOUT_MEMORY:
        found["memory"] = peak_bytes(candidate, tmp_path) / peak_bytes(reference, tmp_path)
    figures.keep(sides.pair.name, measure, **found)

    least = LEAST_SPEED
    if measure == "forward_64":
        least = LEAST_SPEED_OF_ACTING
    elif measure == "forward_backward_16x16":
        least = LEAST_SPEED_OF_TRAINING[sides.pair.name]
    kept = figures.ratios[sides.pair.name][measure]
    assert kept.get("memory", 0.0) <= MOST_MEMORY
    missed = MISSED.get((sides.pair.name, measure))
    assert kept["speed"] >= (least if missed is None else missed.least)
    assert missed is None or kept["speed"] < CLEARLY * least, "the target is reached: take the entry out of MISSED"
    if missed is not None and kept["speed"] < least:
        pytest.xfail(f"{kept['speed']:.2f}, not {least}: {missed.why}")


@pytest.mark.parametrize("measure", ["forward_64", "forward_backward_16x16"])
def test_the_reference_is_no_slower_than_plain_torch(sides, measure, ratio, figures):
    reference, name = sides.reference, sides.pair.name
    transcription = transcribe(name, sides.pair.recipe.environment, reference.policy)
    plain = partial(_act if measure == "forward_64" else _train, transcription, reference)
    found = ratio(plain, partial(MEASURES[measure], reference), run="transcription", beside="reference")
    figures.keep(name, measure, reference_over_transcription=found)
    assert found <= MOST_OVER_TRANSCRIPTION


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_probing_is_cheap(sides, side, ratio, figures):
    work: Workload = getattr(sides, side)
    found = ratio(
        partial(work.forward, 16, 16), partial(work.probed_forward, 16, 16), run=side, beside=f"probed {side}"
    )
    figures.keep(sides.pair.name, "forward_16x16", **{f"probed_{side}": found})
    assert found < MOST_FOR_PROBING


def test_the_trainer_itself_costs_little(figures, monkeypatch):
    """What is left of a rollout and update of `fast` without policy forward, backward, environment and optimizer."""
    pair = registered_pairs()["fast"]
    candidate = Builds(pair).sides(pair.recipe).candidate
    trainer: Any = start_training(pair, candidate, agents=64, steps=64, minibatch=1024)
    inside = 0.0

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def run_timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            start = time.perf_counter()
            try:
                return run(*args, **kwargs)
            finally:
                inside += time.perf_counter() - start

        return run_timed

    for owner, name in (
        (trainer.policy, "forward"),
        (torch.Tensor, "backward"),
        (trainer.environment, "step"),
        (trainer.optimizer, "zero_grad"),
        (trainer.optimizer, "step"),
    ):
        monkeypatch.setattr(owner, name, timed(getattr(owner, name)))
    shares = []
    for _ in range(1 + TRAINER_ROUNDS):
        inside, start = 0.0, time.perf_counter()
        trainer.rollout()
        trainer.update()
        shares.append(1.0 - inside / (time.perf_counter() - start))
    found = statistics.median(shares[1:])  # the first warms up
    figures.keep("fast", "rollout_update_64x64", trainer_share=found)
    assert found < MOST_FOR_THE_TRAINER


@torch.no_grad()
def _act(transcription: RecurrentActorCritic, work: Workload) -> None:
    tokens = work.observations[:64]
    zeros = torch.zeros(2, len(tokens), transcription.hidden_size)
    transcription.act(tokens, torch.zeros(len(tokens), dtype=torch.bool), zeros, zeros)


def _train(transcription: RecurrentActorCritic, work: Workload) -> None:
    transcription.zero_grad(set_to_none=True)
    tokens, action = (x.unflatten(0, (16, 16)) for x in (work.observations, work.action))
    log_prob, entropy, value, _ = transcription.evaluate(tokens, torch.zeros(16, 16, dtype=torch.bool), action)
    weigh(log_prob, value, entropy).backward()

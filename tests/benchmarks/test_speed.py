"""Candidate against reference, and the cost of probing: paired, interleaved, in one process. ``make bench``.

Single times mean nothing on a shared machine; the median of ratios of neighbouring runs does. Writes
``reports/bench-ratios.json``.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from parity.checks.draw import legal_actions
from parity.compare.probes import Probes
from parity.compare.trace import Trace
from parity.pairs.builds import Builds, Subject
from parity.pairs.registry import registered_pairs
from parity.report.files import write_json

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="times mean nothing beside other workers"),
]

RUNS, WARM_UP = 60, 5
REPORT = Path("reports/bench-ratios.json")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def paired(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Median over neighbouring runs of time of ``first`` / time of ``second``."""

    def clock(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    for _ in range(WARM_UP):
        first()
        second()
    return statistics.median(clock(first) / clock(second) for _ in range(RUNS))


def keep(pair: str, measure: str, **figures: float) -> None:
    """Add figures to the report, which later tests of this run add to."""
    content = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    content.setdefault(pair, {})[measure] = {name: round(value, 3) for name, value in figures.items()}
    write_json(REPORT, content)


class Workload:
    """What is timed on one subject: ``[16 x 16]`` training and 64-row inference, float32."""

    def __init__(self, subject: Subject, observations: torch.Tensor) -> None:
        self.subject = subject.copy()
        self.observations = observations
        self.action = legal_actions(subject.recipe.environment, (16, 16), 1)

    def forward(self) -> TensorDict:
        td = TensorDict({"env_obs": self.observations.unflatten(0, (16, 16))}, batch_size=[16, 16])
        return self.subject.policy(td, action=self.action)

    def forward_without_gradient(self) -> None:
        with torch.no_grad():
            self.forward()

    def forward_backward(self) -> None:
        out = self.forward()
        self.subject.policy.zero_grad(set_to_none=True)
        (out["act_log_prob"].sum() + out["value"].sum() + out["entropy"].sum()).backward()

    def inference(self) -> None:
        self.subject.policy.reset_memory()
        with torch.no_grad():
            self.subject.policy(TensorDict({"env_obs": self.observations[:64]}, batch_size=[64]))

    def probed(self, paths: dict[str, str]) -> None:
        with Probes(self.subject.policy, paths, Trace()):
            self.forward_without_gradient()


@pytest.mark.parametrize("pair", registered_pairs().values(), ids=lambda pair: pair.name)
def test_the_candidate_is_faster_and_probing_is_cheap(pair):
    sides = Builds(pair).sides(pair.recipe)
    observations = pair.generate(pair.recipe.environment, rows=256, seed=1)
    reference, candidate = (Workload(subject, observations) for subject in (sides.reference, sides.candidate))
    speeds = {
        "forward_64": paired(reference.inference, candidate.inference),
        "forward_16x16": paired(reference.forward_without_gradient, candidate.forward_without_gradient),
        "forward_backward_16x16": paired(reference.forward_backward, candidate.forward_backward),
    }
    for measure, speed in speeds.items():
        keep(pair.name, measure, speed=speed)
    probing = {
        work.subject.side: paired(lambda w=work: w.probed(pair.paths(w.subject.side)), work.forward_without_gradient)
        for work in (reference, candidate)
    }
    keep(pair.name, "probing_16x16", **probing)
    assert min(speeds.values()) >= 0.95
    assert max(probing.values()) < 1.15

"""How far real trainings go apart, as a result carries it: within the noise, and beyond it from where a fault acts."""

from __future__ import annotations

import json

import pytest

from parity.faults.registry import load_catalogues
from parity.faults.run import run_fault
from parity.pairs.registry import registered_pairs
from parity.profiles import profile_in_force
from parity.results import Cell, Result
from parity.runner import Session, run_cell


@pytest.fixture(scope="module")
def clean() -> Result:
    with profile_in_force("parity-ci"):
        session = Session(registered_pairs()["fast"])
        return run_cell(session, Cell("fast", "training", "cpu", "float64"), max_examples=1)


def test_a_training_that_passes_stays_within_its_bounds(clean: Result):
    assert clean.verdict.passed
    assert clean.trajectory is not None
    points = clean.trajectory["points"]
    assert {point["phase"] for point in points} == {"rollout", "advantages", "forward", "clip"}
    assert len({point["update"] for point in points}) >= 2
    shares = [point["measured"] / point["allowed"] for point in points]
    assert max(shares) == pytest.approx(clean.margin, rel=0.01)
    weights = [point for point in points if point["phase"] == "clip"]
    assert [p["allowed"] for p in weights] == pytest.approx([10 * p["noise"] for p in weights], rel=0.01)
    assert Result.from_json(json.loads(json.dumps(clean.to_json()))) == clean


def test_a_fault_leaves_the_bounds_at_the_update_that_is_named(clean: Result):
    fault = load_catalogues()["fast"].faults["biases_clipped_too"]
    with profile_in_force("parity-ci"):
        found = run_fault(registered_pairs()["fast"], fault, checks=["training"], max_examples=1).result
    assert found.divergence is not None
    assert found.trajectory is not None
    points = found.trajectory["points"]
    # the closer look, which pins the divergence, is at one update alone; what is carried is the whole training
    assert len({point["update"] for point in points}) >= 2
    beyond = [point for point in points if point["measured"] > point["allowed"]]
    assert min(point["update"] for point in beyond) == found.divergence["update"]
    assert found.trajectory["reruns"] >= 2
    assert found.divergence["pictures"]
    assert found.divergence["source"].startswith("parity/agents/pytorch/")

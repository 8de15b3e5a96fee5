"""Pictures and trajectories: what is pooled, what is kept, and that both stay small."""

from __future__ import annotations

import json

import pytest
import torch

from parity.compare.judge import judge
from parity.compare.picture import MOST_COLUMNS, MOST_ROWS, MOST_UPDATES, pictures, trajectory
from parity.compare.trace import Place, Trace


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def test_a_single_element_is_no_picture():
    assert pictures(zeros()) == pictures(zeros(1)) == pictures(zeros(1, 1)) == pictures(zeros(0, 3)) == ()


def test_a_small_matrix_is_itself():
    difference = torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7
    (picture,) = pictures(difference)
    assert picture == {
        "axes": ["row", "column"], "shape": [2, 3], "pooled": [1, 1], "over": 1,
        "values": [[0.0, 0.143, 0.286], [0.429, 0.571, 0.714]],
    }  # fmt: skip


def test_a_large_tensor_keeps_its_largest_differences_where_they_are():
    difference = zeros(100, 30, 10)
    difference[99, 29, 9], difference[0, 0, 0], difference[50, 1, 2] = 3.0, 1.0, 2.0
    (picture,) = pictures(difference)
    assert (picture["axes"], picture["shape"], picture["pooled"]) == (["row", "axes 1 to 2"], [100, 300], [4, 5])
    values = picture["values"]
    assert (len(values), len(values[0])) == (25, 60)
    assert (values[24][59], values[0][0], values[12][2]) == (3.0, 1.0, 2.0)
    assert sum(map(sum, values)) == 6.0


def test_one_axis_is_broken_into_lines():
    difference = zeros(1, 100)
    difference[0, 40] = 5.0
    (picture,) = pictures(difference)
    assert (picture["axes"], picture["shape"]) == (["", "element"], [100])
    assert [len(line) for line in picture["values"]] == [32, 32, 32, 4]
    assert picture["values"][1][8] == 5.0


@pytest.mark.parametrize("shape", [(2, 4, 5), (8, 5), (2, 4)])
def test_rows_and_steps_are_told_apart_batch_first(shape):
    difference = zeros(*shape)
    difference.view(2, 4, -1)[1, 2, -1] = 1.0
    first, *rest = pictures(difference, (2, 4))
    assert (first["axes"], first["shape"], first["over"]) == (["row", "step"], [2, 4], difference.numel() // 8)
    assert first["values"] == [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    assert len(rest) == (shape != (2, 4))  # nothing behind it: the same again


@pytest.mark.parametrize(("shape", "sequence"), [((8, 5), (3, 4)), ((8, 5), (8, 1)), ((4, 2, 5), (2, 4))])
def test_what_has_no_such_axes_has_no_steps(shape, sequence):
    assert [picture["axes"][0] for picture in pictures(zeros(*shape), sequence)] == ["row"]


@pytest.mark.parametrize("shape", [(4096, 4096), (1, 1_000_003), (33, 65), (64, 1), (513,), (2, 70_000, 3), (31, 2, 2)])
def test_no_picture_is_larger_than_its_grid(shape):
    for picture in pictures(torch.rand(shape, dtype=torch.float64), (shape[0], 2)):
        lines = [len(line) for line in picture["values"]]
        assert len(lines) <= MOST_ROWS
        assert max(lines) <= MOST_COLUMNS
        assert len(json.dumps(picture)) < 20_000


def test_what_is_not_finite_stays_so_through_pooling():
    difference = zeros(64, 64)
    difference[3, 3], difference[60, 60] = torch.nan, torch.inf
    (picture,) = pictures(difference)
    assert str(picture["values"][1][3]) == "nan"
    assert picture["values"][30][60] == float("inf")


def point(update: int | None, share: float, phase: str = "clip", key: str = "w") -> tuple[Place, float, float, float]:
    return Place(phase, "fc1", key, update=update), share, 0.1, 1.0


def test_a_trajectory_keeps_the_worst_of_each_phase_and_update():
    points = [point(0, 0.2), point(0, 0.3, key="v"), point(0, 0.1, "rollout"), point(1, 0.05), point(None, 9.0)]
    kept = trajectory(points)
    assert [(p["update"], p["phase"], p["place"], p["measured"]) for p in kept] == [
        (0, "clip", "fc1/v", 0.3), (0, "rollout", "fc1/w", 0.1), (1, "clip", "fc1/w", 0.05),
    ]  # fmt: skip
    assert kept[0] == {**kept[0], "noise": 0.1, "allowed": 1.0}


def test_one_update_is_no_trajectory():
    assert trajectory([point(0, 0.2), point(0, 0.3), point(None, 0.1)]) == []


def test_a_long_training_is_thinned_out_and_its_worst_update_stays():
    kept = trajectory(point(update, 0.9 if update == 777 else 0.1) for update in range(1000))
    assert len(kept) <= MOST_UPDATES
    assert [p["update"] for p in kept if p["measured"] == 0.9] == [777]


def trained(*values: float) -> Trace:
    """A training whose one weight, after each update, is as given."""
    trace = Trace()
    trace.phase, trace.judged = "clip", "ensemble"
    for trace.update, value in enumerate(values):
        trace.record("w", torch.full((4,), value, dtype=torch.float64), component="fc1")
    return trace


def test_a_comparison_of_trainings_says_how_far_they_went_apart():
    outcome = judge(trained(1.0, 2.0), trained(1.0, 2.0 + 1e-9), rerun=lambda n: trained(1.0 + 1e-12, 2.0 + 1e-9))
    assert outcome.trajectory is None  # the first update agrees in every bit: there is nothing to follow
    outcome = judge(trained(1.0, 2.0), trained(1.0 + 1e-12, 2.0 + 1e-9), rerun=lambda n: trained(1.0, 2.0 + 1e-9))
    assert outcome.divergence is not None
    assert outcome.trajectory is not None
    first, second = outcome.trajectory["points"]
    assert first["measured"] == pytest.approx(1e-12, rel=1e-3)
    assert first["measured"] > first["allowed"]
    assert second["measured"] == pytest.approx(second["noise"]) == pytest.approx(second["allowed"] / 10)
    assert outcome.trajectory["reruns"] == 5


def test_reruns_that_are_only_drawn_change_no_verdict():
    """What no rerun can save is judged without any; the noise beside it is measured all the same."""
    reference, candidate = trained(1.0, 2.0), trained(1.0, 2.0)
    for trace, value in ((reference, 1.0), (candidate, 1.5)):
        trace.update, trace.judged = 0, "value"
        trace.record("v", torch.full((4,), value, dtype=torch.float64), component="fc1")
        trace.update, trace.judged = 1, "ensemble"
        trace.record("v", torch.full((4,), value, dtype=torch.float64), component="fc1")
    outcome = judge(reference, candidate, rerun=lambda n: reference)
    assert outcome.divergence is not None
    assert outcome.divergence.allowed == pytest.approx(10 * 2**-52)
    assert outcome.trajectory is not None
    assert outcome.trajectory["reruns"] == 2


def test_a_divergence_carries_the_picture_of_its_difference():
    mine, theirs = Trace(), Trace()
    for trace, value in ((mine, 0.0), (theirs, 0.5)):
        tensor = torch.ones(2, 3, dtype=torch.float64)
        tensor[1, 2] += value
        trace.sequence = (2, 3)
        trace.record("values", tensor)
        trace.record("weight", tensor, component="fc1")
    found = judge(mine, theirs).divergence
    assert found is not None
    assert [picture["axes"] for picture in found.pictures] == [["row", "step"]]
    assert found.pictures[0]["values"] == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]
    for trace in (mine, theirs):
        del trace.entries[next(iter(trace.entries))]
    found = judge(mine, theirs).divergence  # a parameter that happens to have as many rows and columns has no steps
    assert found is not None
    assert [picture["axes"] for picture in found.pictures] == [["row", "column"]]

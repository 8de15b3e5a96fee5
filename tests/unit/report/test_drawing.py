"""Where marks are put: shades by size, the bound as a dot, curves upright and inside their panel, failures off it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_samples import result, training

from parity.compare.verdict import Verdict
from parity.report.drawing import SIZES, grid, panels, strips


def drawn(*lines: list[Any], allowed: float = 0.0) -> dict[tuple[int, int], float]:
    """Cell -> size of its square."""
    picture = {"axes": ["row", "column"], "shape": [len(lines), len(lines[0])], "pooled": [1, 1], "over": 1,
               "values": list(lines)}  # fmt: skip
    found = grid(picture, allowed)
    assert found["worst"] == max(((x, y) for y, line in enumerate(lines) for x in range(len(line))),
                                 key=lambda cell: lines[cell[1]][cell[0]])  # fmt: skip
    squares = [(size, re.findall(r"M(\d+) (\d+)h", path)) for size, path in found["squares"]]
    return {(int(x), int(y)): size for size, cells in squares for x, y in cells}


def test_the_larger_the_difference_the_larger_its_square():
    sizes = drawn([0.1, 0.5, 1.0], [0.0, 0.3, 0.7])
    assert sizes == {(0, 0): SIZES[1], (1, 0): SIZES[3], (2, 0): SIZES[5], (1, 1): SIZES[2], (2, 1): SIZES[4]}


def test_what_is_no_larger_than_the_bound_is_a_dot():
    sizes = drawn([1e-16, 1e-15, 2e-15, 1.0] * 5, allowed=1e-15)
    assert [sizes[x, 0] for x in range(4)] == [SIZES[0], SIZES[0], SIZES[1], SIZES[5]]


@pytest.mark.parametrize(("smallest", "scale"), [(0.01, "linear"), (1e-9, "logarithmic")])
def test_a_wide_range_is_shaded_by_its_logarithm_and_says_so(smallest, scale):
    picture = {"axes": ["", "element"], "shape": [4], "pooled": [1, 1], "over": 1, "values": [[smallest, 1e-3, 0.5, 1]]}
    found = grid(picture, 0.0)
    assert found["scale"] == scale
    assert found["what"] == "4 elements in their order, 4 squares a line"
    assert found["legend"][-1][1].endswith(" to 1")


def test_only_what_is_not_finite_is_crossed():
    picture = {
        "axes": ["row", "column"],
        "shape": [2, 2],
        "pooled": [1, 1],
        "over": 1,
        "values": [[0.0, "inf"], [1, 2]],
    }
    found = grid(picture, 0.0)
    assert found["crosses"].startswith("M1 0l")
    assert found["crosses"].count("M") == 1
    assert found["worst"] == (1, 0)
    assert found["equal"]


def test_curves_are_upright_and_inside_their_panel():
    rollout, weights = panels(training(0.1, 1.0, 100.0), 2)
    assert (rollout["title"], weights["title"]) == ("actions and values", "weights")
    left, top, right, floor = rollout["plot"]
    spots = [(float(x), float(y)) for x, y, _, _ in rollout["marks"]]
    assert [over for _, _, over, _ in rollout["marks"]] == [False, False, True]
    assert all(left < x < right and top <= y <= floor for x, y in spots)
    assert spots[0][1] > spots[1][1] > spots[2][1]
    allowed = [float(spot.split(",")[1]) for spot in rollout["allowed"].split()]
    assert allowed == [spots[1][1]] * 5  # a margin of 1 lies on the bound
    assert rollout["marked"] == rollout["marks"][2][0]
    assert rollout["share"] == pytest.approx(100)
    assert [update for _, update in rollout["updates"]] == [0, 1, 2]


def test_a_training_that_agrees_in_every_bit_has_no_panel():
    assert panels({"reruns": 0, "points": []}, None) == []
    assert panels(training(0.0, 0.0), None) == []


def test_margins_lie_on_their_scale_and_failures_off_it():
    found = [result(margin=0.5), result(margin=1.0, dtype="float32"), result(margin=3.0, verdict=Verdict.DIVERGENT),
             result(margin=0.0, verdict=Verdict.DIVERGENT), result(rung=None)]  # fmt: skip
    (strip,) = strips(found)
    assert [x for x, _, _ in strip["marks"]] == ["44.00", "88.00", "95.00", "95.00"]
    assert strip["worst"] is found[2]

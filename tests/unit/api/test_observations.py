"""What is drawn for a described pair: inside its bounds, the same every time, and with the rows that bugs hide in."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from parity.api.observations import Environment, Observations, described, draw_observations
from parity.compare.verdict import Misuse


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        (Observations((3,), low=-1.0, high=2.0), -1.0, 2.0),
        (Observations((2, 2), torch.uint8), 0, 255),
        (Observations((3,), torch.int64, low=-2, high=4), -2, 4),
        (Observations((3,), torch.bool), 0, 1),
        (Observations((3,), low=0.0), 0.0, 20.0),
    ],
)
def test_numbers_lie_within_their_bounds_and_reach_them(given: Observations, low: float, high: float):
    value = given.draw(400, 7)
    assert (value.dtype, tuple(value.shape)) == (given.dtype, (400, *given.shape))
    assert torch.equal(value, given.draw(400, 7))
    assert not torch.equal(value, given.draw(400, 8))
    assert low <= float(value.to(torch.float64).min())
    assert float(value.to(torch.float64).max()) <= high
    rows = value.flatten(1).to(torch.float64)
    assert bool((rows == low).all(1).any())
    if high != 20.0:
        assert bool((rows == high).all(1).any())


def test_free_numbers_are_spread_around_zero():
    value = Observations((50,)).draw(200, 0)
    assert 1.5 < float(value.std()) < 2.5
    assert abs(float(value.mean())) < 0.2


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        (
            lambda rows, generator: torch.zeros(rows, 4),
            r"returned torch.float32 \[2, 4\]; it must return torch.float32 \[2, 3\]",
        ),
        (lambda rows, generator: torch.zeros(rows, 3, dtype=torch.float64), "returned torch.float64"),
        (lambda rows, generator: [0.0], "returned list"),
        (lambda rows, generator: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_a_function_that_draws_something_else_is_named(generate, message):
    with pytest.raises(Misuse, match=message):
        Observations((3,), generate=generate).draw(2, 0)


def test_several_observations_are_drawn_apart_and_go_by_name():
    environment = described({"a": Observations((2,)), "b": Observations((2,))}, 3)
    drawn = draw_observations(environment, rows=4, seed=1)
    assert isinstance(drawn, TensorDict)
    assert not torch.equal(drawn["a"], drawn["b"])


def test_joint_actions_are_numbered_through_the_heads():
    environment = Environment(Observations((1,)), (3, 4, 2))
    assert environment.max_action_args == (23,)
    split = environment.split(torch.arange(24))
    expected = [[a, b, c] for a in range(3) for b in range(4) for c in range(2)]
    assert split.tolist() == expected
    assert Environment(Observations((1,)), (5,)).split(torch.tensor([4])).tolist() == [4]

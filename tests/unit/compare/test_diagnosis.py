import math

import pytest
import torch

from parity.compare.diagnosis import likely_cause
from parity.compare.trace import Place

PLACE = Place("forward", "fc1", "output", step=2)
RANDOM = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        (RANDOM.clamp(min=0), RANDOM, "a ReLU is missing"),
        (torch.tanh(RANDOM * 3), RANDOM * 3, "a tanh is missing"),
        (RANDOM, RANDOM * math.sqrt(2), "sqrt(2): an init gain"),
        (RANDOM, RANDOM * 0.25, "constant ratio 0.25"),
        (RANDOM, -RANDOM, "a sign"),
        (RANDOM, torch.zeros_like(RANDOM), "0 everywhere"),
        (RANDOM, RANDOM.T, "transposed axes"),
        (RANDOM, RANDOM.roll(1, 0), "an index offset"),
        (RANDOM, RANDOM.flatten()[torch.randperm(36)].reshape(6, 6), "another order"),
        (RANDOM, RANDOM + 1e-13, "rounding only"),
        (RANDOM, RANDOM * math.nan, "NaN"),
    ],
)
def test_each_pattern_is_recognised(reference, candidate, words):
    assert words in likely_cause(reference, candidate, PLACE)


def test_rows_that_differ_are_named_with_the_step():
    wrong = RANDOM.clone()
    wrong[2] += RANDOM[3] ** 2
    assert likely_cause(RANDOM, wrong, PLACE).startswith("only rows [2] at step 2 differ")


def test_no_pattern_no_cause():
    other = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert likely_cause(RANDOM, other, PLACE) == ""
    assert likely_cause(RANDOM, RANDOM[:2], PLACE) == ""

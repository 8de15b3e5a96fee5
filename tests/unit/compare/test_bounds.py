import math

import pytest
import torch

from parity.compare.bounds import BOUNDS, move_one_ulp, rms, same_bits, ulp_distance


def test_rms_is_over_all_elements_in_float64():
    assert rms(torch.tensor([[3.0, 4.0]], dtype=torch.float16)) == pytest.approx(math.sqrt(12.5), rel=1e-15)
    assert rms(torch.empty(0)) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_same_bits_tells_what_equality_does_not(dtype):
    zero = torch.tensor([0.0], dtype=dtype)
    assert same_bits(zero, zero.clone())
    assert not same_bits(zero, -zero)
    assert same_bits(zero / 0, zero / 0)
    assert not same_bits(zero, zero.reshape(1, 1))
    assert not same_bits(zero, zero.to(torch.float32 if dtype != torch.float32 else torch.float64))


def test_same_bits_of_integers_and_of_a_transposed_view():
    value = torch.arange(6).reshape(2, 3)
    assert same_bits(value.T, value.T.contiguous())
    assert not same_bits(value, value + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_move_is_one_ulp_everywhere_but_at_zero(dtype):
    value = torch.tensor([1.0, -3.5, 0.0, 1e30], dtype=dtype)
    moved = move_one_ulp(value, torch.Generator().manual_seed(0))
    distances = [ulp_distance(a, b, dtype) for a, b in zip(value.tolist(), moved.tolist(), strict=True)]
    assert distances == [1.0, 1.0, 0.0, 1.0]


def test_a_move_goes_both_ways():
    moved = move_one_ulp(torch.ones(100), torch.Generator().manual_seed(0))
    assert bool((moved > 1).any())
    assert bool((moved < 1).any())


def test_ulp_distance_crosses_zero_and_knows_infinity():
    assert ulp_distance(0.0, 5e-324, torch.float64) == 1.0
    assert ulp_distance(-5e-324, 5e-324, torch.float64) == 2.0
    assert ulp_distance(1.0, math.inf, torch.float64) == math.inf


@pytest.mark.parametrize(("elements", "limit"), [(1, 10.0), (63, 10.0), (64, 3.0), (999, 3.0), (1000, 2.0)])
def test_small_leaves_get_the_wider_limit(elements, limit):
    assert BOUNDS.noise_limit(elements) == limit

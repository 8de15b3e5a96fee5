from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from parity.checks.oracles.optimizers import Moments, Numbers, adam, clipped_by_norm, muon, orthogonalised

NUMBERS = Numbers(learning_rate=0.1, beta1=0.9, beta2=0.99, eps=0.5, weight_decay=0.25)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def draws(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]


def test_adam_worked_by_hand() -> None:
    seen = Moments()
    # decay makes the first gradient 3 + 0.25 * 4 = 4; corrected moments of a first step are g and g * g
    first = adam(one(4.0), one(3.0), seen, NUMBERS, decoupled=False)
    assert first.item() == pytest.approx(4.0 - 0.1 * 4.0 / (4.0 + 0.5))
    gradient = -2.0 + 0.25 * first.item()
    mean = (0.9 * 0.1 * 4.0 + 0.1 * gradient) / (1 - 0.9**2)
    square = (0.99 * 0.01 * 16.0 + 0.01 * gradient**2) / (1 - 0.99**2)
    second = adam(first, one(-2.0), seen, NUMBERS, decoupled=False)
    assert second.item() == pytest.approx(first.item() - 0.1 * mean / (math.sqrt(square) + 0.5), rel=1e-14)


def test_decoupled_decay_worked_by_hand() -> None:
    after = adam(one(4.0), one(3.0), Moments(), NUMBERS, decoupled=True)
    assert after.item() == pytest.approx(4.0 * (1 - 0.1 * 0.25) - 0.1 * 3.0 / (3.0 + 0.5), rel=1e-14)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_agrees_with_torch(decoupled: bool) -> None:
    weight, *gradients = draws(5, 7)
    parameter, seen = nn.Parameter(weight.clone()), Moments()
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind([parameter], lr=0.1, betas=(0.9, 0.99), eps=0.5, weight_decay=0.25)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        weight = adam(weight, gradient, seen, NUMBERS, decoupled=decoupled)
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (1, 9)])
def test_muon_agrees_with_torch_but_for_its_bfloat16(shape: tuple[int, int]) -> None:
    weight, *gradients = draws(*shape)
    parameter, seen = nn.Parameter(weight.clone()), Moments()
    optimizer = torch.optim.Muon([parameter], lr=0.1, momentum=0.9, eps=1e-9, weight_decay=0.25)
    numbers = Numbers(learning_rate=0.1, beta1=0.9, beta2=0.0, eps=1e-9, weight_decay=0.25)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        before, weight = weight, muon(weight, gradient, seen, numbers)
        moved = (weight - before).norm()
        assert (parameter.detach() - weight).norm() < 0.05 * moved
        weight = parameter.detach().clone()


def test_singular_values_come_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalised(draws(6, 40)[0], 1e-12))
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not orthogonalised(torch.zeros(2, 3, dtype=torch.float64), 1e-12).any()


def test_one_factor_shortens_all_gradients() -> None:
    clipped = clipped_by_norm({"a": one(3.0), "b": one(4.0)}, 1.0)
    assert [clipped[name].item() for name in "ab"] == pytest.approx([0.6, 0.8], rel=1e-6)


def test_short_gradients_stay() -> None:
    assert clipped_by_norm({"a": one(3.0), "b": one(4.0)}, 6.0) == {"a": one(3.0), "b": one(4.0)}

"""Two draws of one law agree however few numbers there are, and two laws differ where their numbers can tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parity.checks.oracles.initial import initial_laws


def law(value: torch.Tensor):
    return initial_laws({"w": value})["w"]


@pytest.mark.parametrize("shape", [(16,), (64,), (1, 32), (3, 24), (64, 64)])
@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_draws_of_one_law_agree(shape: tuple[int, ...], draw):
    torch.manual_seed(0)
    for _ in range(60):
        first, second = (2 * draw(shape) - (1 if draw is torch.rand else 0) for _ in range(2))
        assert law(first).agrees(law(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.randn(64, 64), 1.4142 * torch.randn(64, 64)),
        (torch.randn(32, 32), (2 * torch.rand(32, 32) - 1) * 3**0.5),  # of one spread, but bounded
        (torch.rand(1, 64), 0.01 * torch.rand(1, 64)),
        (torch.zeros(16), torch.ones(16)),
        (nn.init.orthogonal_(torch.empty(8, 32)), nn.init.orthogonal_(torch.empty(8, 32), gain=2**0.5)),
        (nn.init.orthogonal_(torch.empty(8, 32)), torch.randn(8, 32) / 32**0.5),
    ],
)
def test_different_laws_differ(first: torch.Tensor, second: torch.Tensor):
    assert not law(first).agrees(law(second))


def test_a_single_row_is_not_taken_for_orthogonal():
    assert law(torch.randn(1, 32)).kind == "spread"

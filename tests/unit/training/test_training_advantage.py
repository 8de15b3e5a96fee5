from __future__ import annotations

import torch

from parity.training.advantage import compute_advantages

GAMMA, LAMBDA, RHO, C = 0.9, 0.8, 1.1, 0.7


def plain(values, rewards, dones, truncateds, ratio):  # type: ignore[no-untyped-def]
    """One row after the other, one step after the other."""
    result = torch.zeros_like(values)
    rows, steps = values.shape
    for n in range(rows):
        later = 0.0
        for t in reversed(range(steps - 1)):
            done, cut = bool(dones[n, t + 1]), bool(truncateds[n, t + 1])
            if done:
                following, trace = 0.0, 0.0
            elif cut:
                following, trace = float(values[n, t]), 0.0
            else:
                following, trace = float(values[n, t + 1]), later
            rho, c = min(float(ratio[n, t]), RHO), min(float(ratio[n, t]), C)
            error = float(rewards[n, t + 1]) + GAMMA * following - float(values[n, t])
            later = rho * error + GAMMA * LAMBDA * c * trace
            result[n, t] = later
    return result


def draw(rows: int, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(rows, steps, generator=generator, dtype=torch.float64)
    rewards = torch.randn(rows, steps, generator=generator)
    dones, truncateds = (torch.rand(2, rows, steps, generator=generator) < 0.3).float()
    ratio = torch.rand(rows, steps, generator=generator, dtype=torch.float64) * 2
    return [values, rewards, dones, truncateds, ratio]


def test_equals_a_plain_loop_over_every_kind_of_boundary() -> None:
    values, rewards, dones, truncateds, ratio = draw(20, 9)
    assert bool((dones * truncateds).any()) and bool((truncateds * (1 - dones)).any())
    found = compute_advantages(
        values, rewards, dones, truncateds, ratio, gamma=GAMMA, gae_lambda=LAMBDA, rho_clip=RHO, c_clip=C
    )
    torch.testing.assert_close(found, plain(values, rewards, dones, truncateds, ratio), rtol=1e-12, atol=1e-12)


def test_a_truncated_step_is_not_a_failure() -> None:
    values = torch.full((1, 3), 2.0, dtype=torch.float64)
    nothing, cut = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]])
    settings = {"gamma": 1.0, "gae_lambda": 1.0, "rho_clip": 1.0, "c_clip": 1.0}
    ones = torch.ones_like(values)
    assert compute_advantages(values, nothing, nothing, cut, ones, **settings)[0, 0] == 0.0
    assert compute_advantages(values, nothing, cut, nothing, ones, **settings)[0, 0] == -2.0


def test_the_last_step_has_none_and_one_step_is_all_zero() -> None:
    settings = {"gamma": GAMMA, "gae_lambda": LAMBDA, "rho_clip": 1.0, "c_clip": 1.0}
    found = compute_advantages(*draw(4, 6), **settings)
    assert bool((found[:, -1] == 0).all()) and bool((found[:, :-1] != 0).all())
    assert compute_advantages(*draw(4, 1), **settings).tolist() == [[0.0]] * 4

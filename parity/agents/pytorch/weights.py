"""Drawing initial weights, and measuring weights: plain functions over single tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from parity.agents.seeding import parameter_generator

# Singular values below this share of the largest are rounding, and their logarithms would rule the fit.
_NEGLIGIBLE = 1e-12


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block on one thread: matrix factorisations round differently with another thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_orthogonal(shape: torch.Size, *, gain: float, seed: int, component: str, role: str) -> Tensor:
    """A float32 CPU tensor with orthonormal rows or columns (of ``[shape[0], -1]``), times ``gain``."""
    with single_thread():
        return nn.init.orthogonal_(
            torch.empty(shape, dtype=torch.float32),
            gain=gain,
            generator=parameter_generator(seed, component, role),
        )


def draw_uniform(shape: tuple[int, ...], *, bound: float, seed: int, component: str, role: str) -> Tensor:
    """A float32 CPU tensor, uniform in ``[-bound, bound)``."""
    generator = parameter_generator(seed, component, role)
    return torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)


def draw_normal(shape: tuple[int, ...], *, seed: int, component: str, role: str) -> Tensor:
    """A float32 CPU tensor, normal with mean 0 and standard deviation 1."""
    generator = parameter_generator(seed, component, role)
    return nn.init.normal_(torch.empty(shape, dtype=torch.float32), generator=generator)


def draw_truncated_normal(shape: tuple[int, ...], *, std: float, seed: int, component: str, role: str) -> Tensor:
    """A float32 CPU tensor, normal with mean 0, cut off at +-2."""
    generator = parameter_generator(seed, component, role)
    return nn.init.trunc_normal_(torch.empty(shape, dtype=torch.float32), std=std, generator=generator)


def weight_metrics(name: str, weight: Tensor, delta: float) -> dict[str, float | str]:
    """Singular-value statistics of one weight, taken as ``[out, -1]`` in float64.

    Args:
        name: the component, reported as ``name``.
        weight: any floating tensor with at least two axes.
        delta: share of the singular values' sum that the effective rank may leave out, strictly between 0 and 1.
    """
    matrix = weight.detach().to("cpu", torch.float64).flatten(1)
    values = torch.linalg.svdvals(matrix)
    share = values.cumsum(0)
    exponent, r2 = power_law_fit(values)
    return {
        "name": name,
        "singular_value_max": values[0].item(),
        "singular_value_min": values[-1].item(),
        "singular_value_mean": values.mean().item(),
        "singular_value_std": values.std(correction=0).item(),
        "effective_rank": float((share < (1.0 - delta) * share[-1]).sum().item() + 1),
        "weight_norm": values.norm().item(),
        "power_law_exponent": exponent,
        "power_law_r2": r2,
    }


def power_law_fit(values: Tensor) -> tuple[float, float]:
    """Exponent and r2 of ``values[k] ~ k ** -exponent`` (k from 1), by least squares in log-log space.

    ``values`` are descending. Fewer than two points, or points without any spread, give r2 0.
    """
    kept = values[values > _NEGLIGIBLE * values[0]]
    if len(kept) < 2:
        return 0.0, 0.0
    x = torch.arange(1, len(kept) + 1, dtype=values.dtype).log()
    y = kept.log()
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    spread = (y @ y).item()
    residual = y - slope * x
    return -slope.item(), 1.0 - (residual @ residual).item() / spread if spread > 0.0 else 0.0

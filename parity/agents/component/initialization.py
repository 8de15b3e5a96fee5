"""Drawing initial parameters, each from its own generator, in float32 on the CPU and on one thread.

So the bits depend on nothing but seed, component and role: not on construction order, thread count, dtype or device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from parity.agents.seeding import parameter_generator

EMBEDDING_LIMIT = 0.1
TOKEN_STD = 0.02

_Layer = TypeVar("_Layer", bound=nn.Module)


def uninitialised(kind: type[_Layer], *sizes: int) -> _Layer:
    """Return ``kind(*sizes)`` in float32 on the CPU with arbitrary parameters, leaving the global generator alone."""
    return kind(*sizes, device="meta", dtype=torch.float32).to_empty(device="cpu")


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the QR decomposition rounds differently on several
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def draw_orthogonal(parameter: Tensor, seed: int, component: str, role: str, gain: float = 1.0) -> None:
    """Fill a matrix, or a convolution's weight as ``[out, -1]``, with an orthogonal draw times ``gain``, in place."""
    with _one_thread():
        nn.init.orthogonal_(parameter, gain, generator=parameter_generator(seed, component, role))


@torch.no_grad()
def draw_embedding(parameter: Tensor, seed: int, component: str) -> None:
    """Fill an embedding table ``[rows, width]`` with an orthogonal draw whose largest magnitude is 0.1, in place."""
    draw_orthogonal(parameter, seed, component, "weight")
    parameter.mul_(EMBEDDING_LIMIT / parameter.abs().max())


@torch.no_grad()
def draw_uniform(parameter: Tensor, seed: int, component: str, role: str, fan_in: int) -> None:
    """Fill a tensor uniformly within +-1/sqrt(fan_in), in place."""
    bound = 1.0 / math.sqrt(fan_in)
    with _one_thread():
        parameter.uniform_(-bound, bound, generator=parameter_generator(seed, component, role))


@torch.no_grad()
def draw_trunc_normal(parameter: Tensor, seed: int, component: str, role: str) -> None:
    """Fill a tensor normally with standard deviation 0.02, in place; the cut at +-2 is never met."""
    with _one_thread():
        nn.init.trunc_normal_(parameter, std=TOKEN_STD, generator=parameter_generator(seed, component, role))


@torch.no_grad()
def draw_normal(parameter: Tensor, seed: int, component: str, role: str) -> None:
    """Fill a tensor with standard normal numbers, in place."""
    with _one_thread():
        nn.init.normal_(parameter, generator=parameter_generator(seed, component, role))

"""Components that are found by the parameters they hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import parity
from parity.runner import Session


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.qkv(x)[:, :3].tanh()


class Apart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q(x).tanh()


class Policy(nn.Module):
    def __init__(self, body: type[nn.Module], names: tuple[str, str]) -> None:
        super().__init__()
        self.names = names
        setattr(self, names[1], nn.Linear(3, 2))  # made first, called last
        setattr(self, names[0], nn.Sequential(nn.Linear(3, 3)))
        self.body, self.unused, self.v = body(), nn.Linear(3, 4), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(getattr(self, self.names[0])(x))
        return getattr(self, self.names[1])(x), self.v(x)


def found(candidate: type[nn.Module], names: tuple[str, str]) -> dict[str, str]:
    links = parity.fused(["body.q.weight", "body.k.weight"], "body.qkv.weight", rows=3)
    links += parity.fused(["body.q.bias", "body.k.bias"], "body.qkv.bias", rows=3)
    pair = parity.pair(
        "toy",
        reference=lambda: Policy(Apart, ("look", "pi")),
        candidate=lambda: Policy(candidate, names),
        observations=parity.Observations((3,)),
        actions=2,
        parameters=links if candidate is Fused else (),
    )
    return {link.reference: link.candidate for link in Session(pair).pair.components}


def test_renamed_modules_are_linked_in_the_order_in_which_they_return_and_uncalled_ones_left_out():
    links = found(Apart, ("see", "actor"))
    assert links == {"look.0": "see.0", "body.q": "body.q", "body": "body", "pi": "actor", "v": "v"}
    assert list(links) == ["look.0", "body.q", "body", "pi", "v"]


def test_parts_that_are_fused_are_linked_as_a_whole():
    assert found(Fused, ("look", "pi")) == {"look.0": "look.0", "look": "look", "body": "body", "pi": "pi", "v": "v"}

"""Self attention over five entities; the rewrite fuses its three projections into one matrix."""

import torch
from torch import Tensor, nn
from torch.nn import functional

import parity

WIDTH = 8


class OldAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / WIDTH**0.5
        return scores.softmax(-1) @ self.value(x)


class NewAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return functional.scaled_dot_product_attention(q, k, v)


class Policy(nn.Module):
    def __init__(self, attention: type[nn.Module]):
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.attention = attention()
        self.actor, self.critic = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 1)

    def forward(self, observation: dict[str, Tensor]):
        x = self.embed(observation["entities"]) * observation["seen"][..., None]
        pooled = self.attention(x).mean(1)
        return self.actor(pooled), self.critic(pooled)


pair = parity.pair(
    "attention",
    reference=lambda: Policy(OldAttention),
    candidate=lambda: Policy(NewAttention),
    observations={
        "entities": parity.Observations(shape=(5, 4)),
        "seen": parity.Observations(shape=(5,), dtype=torch.bool),
    },
    actions=6,
    components={name: (name, name) for name in ("embed", "attention", "actor", "critic")},
    parameters=[
        link
        for kind in ("weight", "bias")
        for link in parity.fused(
            [f"attention.{name}.{kind}" for name in ("query", "key", "value")], f"attention.qkv.{kind}", rows=WIDTH
        )
    ],
    capabilities={"independent_rows"},
    without={"initial_law"},  # a fused matrix is drawn by the law of its own size
)
globals().update(parity.tests_of(pair))

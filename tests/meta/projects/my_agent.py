"""What the reader of the documentation has: some policies, each before and after a rewrite."""

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional


class OldPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.pi, self.v = nn.Linear(17, 32), nn.Linear(32, 6), nn.Linear(32, 1)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.pi(x), self.v(x)


class NewPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(17, 32), nn.ReLU())
        self.actor, self.critic = nn.Linear(32, 6), nn.Linear(32, 1)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.actor(x), self.critic(x)


class Handed(nn.Module):
    """Takes its state and returns the next."""

    def __init__(self):
        super().__init__()
        self.cell, self.pi, self.v = nn.GRUCell(17, 8), nn.Linear(8, 6), nn.Linear(8, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self.cell(x, state)
        return self.pi(state), self.v(state), state


class Keeping(nn.Module):
    """Keeps its state, forgets it where an episode begins, and clips its weights."""

    def __init__(self):
        super().__init__()
        self.memory, self.actor, self.critic = nn.GRUCell(17, 8), nn.Linear(8, 6), nn.Linear(8, 1)
        self.hidden = torch.zeros(0, 8)

    def act(self, x: Tensor, starts: Tensor) -> dict[str, Tensor]:
        self.hidden = self.memory(x, self.hidden.masked_fill(starts[:, None], 0.0))
        return {"logits": self.actor(self.hidden), "value": self.critic(self.hidden)}


class OldAttention(nn.Module):
    """From a TensorDict to a TensorDict, with three projections."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.pi, self.v = nn.Linear(4, 6), nn.Linear(4, 1)

    def forward(self, td: TensorDict) -> TensorDict:
        x = td["entities"]
        self.scores = (self.query(x) @ self.key(x).transpose(1, 2) / 2).softmax(-1)
        x = (self.scores @ self.value(x)).mean(1)
        return TensorDict({"policy": self.pi(x), "baseline": self.v(x)}, td.batch_size)


class NewAttention(nn.Module):
    """The same with one."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.actor, self.critic = nn.Linear(4, 6), nn.Linear(4, 1)

    def forward(self, td: TensorDict) -> TensorDict:
        q, k, v = self.qkv(td["entities"]).chunk(3, dim=-1)
        self.scores = (q @ k.transpose(1, 2) / 2).softmax(-1)
        x = functional.scaled_dot_product_attention(q, k, v).mean(1)
        return TensorDict({"policy": self.actor(x), "baseline": self.critic(x)}, td.batch_size)

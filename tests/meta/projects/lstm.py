"""Recurrent actor-critics: one is handed its state as a tuple, the other keeps one tensor to itself and is reset."""

import torch
from torch import Tensor, nn

import parity

HIDDEN = 16


class OldPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN)
        self.actor, self.critic = nn.Linear(HIDDEN, 3), nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]):
        out, state = self.lstm(torch.tanh(self.embed(x))[None], state)
        return self.actor(out[0]), self.critic(out[0]), state


class NewPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, HIDDEN)
        self.gates = nn.LSTMCell(HIDDEN, HIDDEN)
        self.pi, self.v = nn.Linear(HIDDEN, 3), nn.Linear(HIDDEN, 1)
        self.carry = torch.zeros(0, 2 * HIDDEN)  # h and c side by side, a row per environment

    def forget(self, rows: Tensor) -> None:
        self.carry = self.carry.masked_fill(rows[:, None], 0.0)

    def step(self, x: Tensor) -> dict[str, Tensor]:
        h, c = self.carry.chunk(2, dim=-1)
        h, c = self.gates(torch.tanh(self.encoder(x)), (h, c))
        self.carry = torch.cat([h, c], dim=-1)
        return {"logits": self.pi(h), "value": self.v(h)}

    def unroll(self, x: Tensor, resets: Tensor) -> dict[str, Tensor]:
        outputs = []
        for step in range(x.shape[1]):
            self.forget(resets[:, step])
            outputs.append(self.step(x[:, step]))
        return {key: torch.stack([out[key] for out in outputs], dim=1) for key in outputs[0]}


def put(policy: NewPolicy, state: tuple[Tensor, Tensor]) -> None:
    policy.carry = torch.cat([state[0][0], state[1][0]], dim=-1)


def zeros(policy: nn.Module, batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, batch, HIDDEN), torch.zeros(1, batch, HIDDEN)


pair = parity.pair(
    "lstm",
    reference=parity.Side(OldPolicy, initial_state=zeros),
    candidate=parity.Side(
        NewPolicy,
        call=lambda policy, x: policy.step(x),
        sequence=lambda policy, x, reset: policy.unroll(x, reset),
        initial_state=zeros,
        get_state=lambda policy: tuple(part[None] for part in policy.carry.chunk(2, dim=-1)),
        set_state=put,
        reset=lambda policy, rows: policy.forget(rows),
    ),
    observations=parity.Observations(shape=(5,)),
    actions=3,
)
globals().update(parity.tests_of(pair))

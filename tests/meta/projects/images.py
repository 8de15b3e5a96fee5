"""Plain tensors in and out, uint8 images, two action heads; log-prob and entropy are the policy's own."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import parity


class OldPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.hidden = nn.Linear(4 * 3 * 3, 24)
        self.heads = nn.ModuleList([nn.Linear(24, 3), nn.Linear(24, 4)])
        self.critic = nn.Linear(24, 1)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.hidden(torch.relu(self.conv(x.float() / 255.0)).flatten(1)))

    def get_action_and_value(self, x: Tensor, action: Tensor | None = None):
        features = self.features(x)
        heads = [Categorical(logits=head(features)) for head in self.heads]
        if action is None:
            action = torch.stack([head.sample() for head in heads], dim=-1)
        log_prob = torch.stack([head.log_prob(action[:, number]) for number, head in enumerate(heads)]).sum(0)
        entropy = torch.stack([head.entropy() for head in heads]).sum(0)
        return action, log_prob, entropy, self.critic(features), torch.cat([head.logits for head in heads], dim=-1)


class NewPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 24), nn.ReLU())
        self.turn, self.push = nn.Linear(24, 3), nn.Linear(24, 4)
        self.value = nn.Linear(24, 1)

    def evaluate(self, x: Tensor, action: Tensor | None):
        features = self.body(x.to(torch.float32) / 255.0)
        turn, push = self.turn(features).log_softmax(-1), self.push(features).log_softmax(-1)
        if action is None:
            action = torch.stack([part.exp().multinomial(1)[:, 0] for part in (turn, push)], dim=-1)
        log_prob = turn.gather(-1, action[:, :1])[:, 0] + push.gather(-1, action[:, 1:])[:, 0]
        entropy = -(turn.exp() * turn).sum(-1) - (push.exp() * push).sum(-1)
        return {
            "logits": torch.cat([turn, push], dim=-1),
            "value": self.value(features),
            "action": action,
            "log_prob": log_prob,
            "entropy": entropy,
        }


def call(policy: OldPolicy, x: Tensor, action: Tensor | None) -> dict[str, Tensor]:
    action, log_prob, entropy, value, logits = policy.get_action_and_value(x, action)
    return {"logits": logits, "value": value, "action": action, "log_prob": log_prob, "entropy": entropy}


pair = parity.pair(
    "images",
    reference=parity.Side(OldPolicy, call=call),
    candidate=parity.Side(NewPolicy, call=lambda policy, x, action: policy.evaluate(x, action)),
    observations=parity.Observations(shape=(1, 8, 8), dtype=torch.uint8),
    actions=(3, 4),
)
globals().update(parity.tests_of(pair))

"""Actor-critics that map a TensorDict to a TensorDict, before and after their layers were regrouped and renamed."""

import torch
from tensordict import TensorDict
from torch import nn

import parity


class OldPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 32), nn.Linear(32, 32)
        self.pi, self.v = nn.Linear(32, 4), nn.Linear(32, 1)

    def forward(self, td: TensorDict) -> TensorDict:
        hidden = torch.relu(self.fc1(td["observation"]))
        hidden = torch.relu(self.fc2(hidden))
        td["logits"], td["state_value"] = self.pi(hidden), self.v(hidden)
        return td


class NewPolicy(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.actor, self.critic = nn.Linear(32, 4), nn.Linear(32, 1)

    def forward(self, td: TensorDict) -> TensorDict:
        features = self.trunk(td["observation"])
        return td.update({"action_scores": self.actor(features), "baseline": self.critic(features)})


pair = parity.pair(
    "tensordict_mlp",
    reference=parity.Side(OldPolicy, tensordict=True, logits="logits", value="state_value"),
    candidate=parity.Side(NewPolicy, tensordict=True, logits="action_scores", value="baseline"),
    observations=parity.Observations(shape=(6,), low=-1.0, high=1.0),
    actions=4,
    capabilities={"initial_bits", "independent_rows"},
)
globals().update(parity.tests_of(pair))

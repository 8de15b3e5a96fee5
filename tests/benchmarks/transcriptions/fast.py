"""The reference of ``fast``, transcribed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from transcriptions.box import normalised_box, normalizations
from transcriptions.recurrent import RecurrentActorCritic


class Fast(RecurrentActorCritic):
    """Two convolutions and two Linears over the token box."""

    sources: ClassVar[Mapping[str, str]] = {
        **RecurrentActorCritic.sources,
        "cnn1": "cnn1.net",
        "cnn2": "cnn2.net",
        "fc1": "fc1.net",
        "fc2": "encoded_obs.net",
    }

    divisors: Tensor

    def __init__(self, environment: EnvironmentDescription) -> None:
        super().__init__(environment, input_size=128, hidden_size=128)
        self.environment = environment
        self.register_buffer("divisors", normalizations(environment, environment.num_layers))
        self.cnn1 = nn.Conv2d(environment.num_layers, 64, kernel_size=5, stride=3)
        self.cnn2 = nn.Conv2d(64, 64, kernel_size=3)
        self.fc1 = nn.Linear(64, 128)
        self.fc2 = nn.Linear(128, 128)

    def encode(self, tokens: Tensor) -> Tensor:
        box = normalised_box(tokens, self.environment, self.divisors)
        x = torch.relu(self.cnn2(torch.relu(self.cnn1(box))))
        return torch.relu(self.fc2(torch.relu(self.fc1(x.flatten(1)))))

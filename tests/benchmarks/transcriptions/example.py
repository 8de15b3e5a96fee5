"""The reference of ``example``, transcribed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from transcriptions.box import normalised_box, normalizations
from transcriptions.recurrent import RecurrentActorCritic


class Example(RecurrentActorCritic):
    """Two convolutions and a Linear over the token box, beside a Linear over its centre cell."""

    sources: ClassVar[Mapping[str, str]] = {
        **RecurrentActorCritic.sources,
        "cnn1": "cnn1.net",
        "cnn2": "cnn2.net",
        "fc1": "fc1.net",
        "center": "center_fc.net",
    }

    divisors: Tensor

    def __init__(self, environment: EnvironmentDescription) -> None:
        super().__init__(environment, input_size=512, hidden_size=512)
        self.environment = environment
        self.register_buffer("divisors", normalizations(environment, environment.num_layers))
        self.cnn1 = nn.Conv2d(environment.num_layers, 128, kernel_size=5, stride=3)
        self.cnn2 = nn.Conv2d(128, 128, kernel_size=3)
        self.fc1 = nn.Linear(128, 256)
        self.center = nn.Linear(environment.num_layers, 256)

    def encode(self, tokens: Tensor) -> Tensor:
        box = normalised_box(tokens, self.environment, self.divisors)
        x = torch.relu(self.cnn2(torch.relu(self.cnn1(box))))
        center = box[:, :, box.shape[2] // 2, box.shape[3] // 2]
        return torch.cat([torch.relu(self.fc1(x.flatten(1))), torch.relu(self.center(center))], dim=1)

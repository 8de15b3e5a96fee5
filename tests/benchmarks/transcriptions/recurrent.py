"""What all transcriptions end in: an LSTM whose state opens and closes with episodes, a critic and an actor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription


class RecurrentActorCritic(nn.Module, ABC):
    """Features ``[B * T, input_size]`` of the subclass's encoder -> log-probabilities and values.

    Every (row, action) pair is scored on its own, as in the reference, by a query computed from a repeated row.
    """

    #: Attribute -> where the reference keeps its parameters, below ``components``.
    sources: ClassVar[Mapping[str, str]] = {
        "lstm": "_core_.net",
        "critic": "critic_1.net",
        "value": "_value_.net",
        "actor": "actor_1.net",
        "embeddings": "_action_embeds_.net",
        "actor_weight": "_action_.W",
        "actor_bias": "_action_.bias",
    }

    action_rows: Tensor
    actions: Tensor
    first_index: Tensor

    def __init__(self, environment: EnvironmentDescription, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers=2)
        self.critic = nn.Linear(hidden_size, 1024)
        self.value = nn.Linear(1024, 1)
        self.actor = nn.Linear(hidden_size, 512)
        self.embeddings = nn.Embedding(100, 16)
        self.actor_weight = nn.Parameter(torch.empty(512, 16))
        self.actor_bias = nn.Parameter(torch.empty(1))
        largest = environment.max_action_args
        pairs = [(kind, arg) for kind, most in enumerate(largest) for arg in range(most + 1)]
        self.register_buffer("action_rows", torch.arange(len(pairs)))
        self.register_buffer("actions", torch.tensor(pairs, dtype=torch.int32))
        self.register_buffer("first_index", torch.tensor([sum(largest[:i]) + i for i in range(len(largest))]))

    @abstractmethod
    def encode(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> features ``[N, input_size]``."""

    def act(self, tokens: Tensor, resets: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Sample one action per row.

        Args:
            tokens: ``[B, M, 3]`` uint8.
            resets: bool ``[B]``, true where an episode opens.
            h: ``[2, B, hidden]``, as is ``c``.
            c: see ``h``.

        Returns:
            Actions ``[B, 2]`` int32, their log-probabilities ``[B]``, values ``[B]``, all log-probabilities ``[B, A]``,
            and the state after the step.
        """
        log_probs, values, h, c = self.run(tokens, resets.unsqueeze(1), h, c)
        index = torch.multinomial(log_probs.exp(), 1)
        chosen = log_probs.gather(1, index).squeeze(1)
        return self.actions[index.squeeze(1)], chosen, values, log_probs, h, c

    def evaluate(self, tokens: Tensor, resets: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Evaluate given actions from a zero state.

        Args:
            tokens: ``[B, T, M, 3]`` uint8.
            resets: bool ``[B, T]``.
            action: int64 ``[B, T, 2]``.

        Returns:
            Log-probabilities of the actions, entropies and values, each ``[B, T]``, and all log-probabilities
            ``[B, T, A]``.
        """
        batch, steps = resets.shape
        zeros = torch.zeros(2, batch, self.hidden_size, dtype=self.actor_weight.dtype)
        log_probs, values, _, _ = self.run(tokens.flatten(0, 1), resets, zeros, zeros)
        index = self.first_index[action[..., 0]] + action[..., 1]
        chosen = log_probs.gather(1, index.view(-1, 1)).view(batch, steps)
        entropy = -(log_probs.exp() * log_probs).sum(-1).view(batch, steps)
        return chosen, entropy, values.view(batch, steps), log_probs.view(batch, steps, -1)

    def run(self, tokens: Tensor, resets: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens ``[B * T, M, 3]``, row = b * T + t -> log-probabilities ``[B * T, A]``, values ``[B * T]``, state."""
        batch, steps = resets.shape
        sequence = self.encode(tokens).view(batch, steps, -1).transpose(0, 1)
        stride = 1 if bool(resets[:, 1:].any()) else steps
        outputs = []
        for start in range(0, steps, stride):
            kept = ~resets[:, start].view(1, batch, 1)
            output, (h, c) = self.lstm(sequence[start : start + stride], (h * kept, c * kept))
            outputs.append(output)
        hidden = torch.cat(outputs).transpose(0, 1).reshape(batch * steps, -1)

        values = self.value(torch.tanh(self.critic(hidden))).squeeze(1)
        embeddings = self.embeddings(self.action_rows)
        actor = torch.relu(self.actor(hidden)).repeat_interleave(len(embeddings), dim=0)
        query = torch.tanh(actor @ self.actor_weight)
        logits = (query * embeddings.repeat(len(hidden), 1)).sum(-1) + self.actor_bias
        return torch.log_softmax(logits.view(len(hidden), -1), dim=-1), values, h, c

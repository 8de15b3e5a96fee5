"""The optimizers: Adam for everything, or Muon for matrices with AdamW for the rest, behind one object."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from parity.training.config import OptimizerConfig


class Optimizer:
    """One or two torch optimizers that step together over a policy's trainable parameters.

    Muon takes every 2-D parameter that is no embedding table: the weights of Linear layers, of the LSTM, and the actor
    head's. A table is known by its module, ``nn.Embedding``, or by ``embed`` in its parameter's name. AdamW takes the
    rest: biases, norms, convolutions, tables, learned tokens. The order of parameters is the policy's own.

    Args:
        policy: its parameters, by name.
        config: type and numbers.

    Attributes:
        parts: the torch optimizers.
        names: for each part the names of its parameters, in order.
    """

    def __init__(self, policy: nn.Module, config: OptimizerConfig) -> None:
        parameters = {name: value for name, value in policy.named_parameters() if value.requires_grad}
        adam = {
            "lr": config.learning_rate,
            "betas": (config.beta1, config.beta2),
            "eps": config.eps,
            "weight_decay": config.weight_decay,
        }
        self.parts: list[torch.optim.Optimizer] = []
        self.names: list[list[str]] = []
        if config.type == "adam":
            self._add(torch.optim.Adam(parameters.values(), **adam), list(parameters))
            return
        tables = {id(module.weight) for module in policy.modules() if isinstance(module, nn.Embedding)}
        matrices = {
            name: value
            for name, value in parameters.items()
            if value.dim() == 2 and id(value) not in tables and "embed" not in name
        }
        rest = {name: value for name, value in parameters.items() if name not in matrices}
        if matrices:
            muon = torch.optim.Muon(
                matrices.values(),
                lr=config.learning_rate,
                momentum=config.beta1,
                eps=config.eps,
                weight_decay=config.weight_decay,
            )
            self._add(muon, list(matrices))
        if rest:
            self._add(torch.optim.AdamW(rest.values(), **adam), list(rest))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Parameter name -> its state (``step``, moments, momentum), copies of nothing."""
        return {
            name: dict(part.state.get(parameter, {}))
            for part, names in zip(self.parts, self.names, strict=True)
            for name, parameter in zip(names, part.param_groups[0]["params"], strict=True)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Adopt what ``state_dict`` gave for the same policy and configuration; the configuration's numbers stay."""
        for part, names in zip(self.parts, self.names, strict=True):
            groups = part.state_dict()["param_groups"]
            numbered = {i: state[name] for i, name in enumerate(names) if name in state}
            part.load_state_dict({"state": numbered, "param_groups": groups})

    def _add(self, part: torch.optim.Optimizer, names: list[str]) -> None:
        self.parts.append(part)
        self.names.append(names)

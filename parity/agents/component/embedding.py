"""Embedding tables: one looked up by its source's numbers, one by the active actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.initialization import draw_embedding, uninitialised
from parity.agents.component.settings import ComponentSettings


class _Table(Component):
    """A table of ``num_embeddings`` rows of ``embedding_dim`` numbers."""

    nn_param_keys: ClassVar[frozenset[str]] = frozenset({"num_embeddings", "embedding_dim"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        rows, self.width = settings.whole("num_embeddings"), settings.whole("embedding_dim")
        self.net = uninitialised(nn.Embedding, rows, self.width)
        draw_embedding(self.net.weight, context.seed, settings.name)


class Embedding(_Table):
    """Whole numbers ``[N, ...]`` -> ``[N, ..., embedding_dim]``; floating numbers lose their fraction."""

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = (*inputs[0], self.width)

    def forward(self, index: Tensor) -> Tensor:
        """Look up each number's row."""
        return self.net(index.to(torch.int64))


class ActionEmbedding(_Table):
    """Nothing -> ``[A, embedding_dim]``: the rows of the active actions, in logit order."""

    arity: ClassVar[int | None] = 0

    active_rows: Tensor

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.output_shape = (self.width,)
        # Not persistent: its length follows the environment, and activation writes it anew.
        self.register_buffer("active_rows", torch.empty(0, dtype=torch.int64, device="cpu"), persistent=False)

    @property
    def capacity(self) -> int:
        """How many full action names the table has a row for."""
        return self.net.num_embeddings

    def activate(self, rows: Sequence[int]) -> None:
        """Use these rows, one per logit, from now on."""
        self.active_rows = torch.tensor(list(rows), dtype=torch.int64, device=self.net.weight.device)

    def forward(self) -> Tensor:
        """Return the active rows."""
        return self.net(self.active_rows)

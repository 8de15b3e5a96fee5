"""The actor head: a score for every active action, from its embedding row and the hidden state."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.initialization import draw_uniform
from parity.agents.component.settings import ComponentSettings


class MettaActorSingleHead(Component):
    """Hidden rows ``[N, hidden]`` and embedding rows ``[A, width]`` -> logits ``[N, A]``."""

    arity: ClassVar[int | None] = 2

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        for source, shape in zip(settings.sources, inputs, strict=True):
            if len(shape) != 1:
                raise settings.error(f"takes rows of numbers, but source {source.name!r} gives {list(shape)} per row")
        (hidden,), (width,) = inputs
        # Named as upstream's parameter is.
        self.W = nn.Parameter(torch.empty(hidden, width, device="cpu", dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(1, device="cpu", dtype=torch.float32))
        draw_uniform(self.W, context.seed, settings.name, "W", hidden)
        draw_uniform(self.bias, context.seed, settings.name, "bias", hidden)
        self.output_shape = ()  # one number per action; how many there are is the environment's business

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Score every (row, action) pair on its own: tanh(h W) . e + bias."""
        rows, actions = len(hidden), len(embeddings)
        pair_hidden = hidden.repeat_interleave(actions, dim=0)  # [N * A, hidden], row = n * A + a
        pair_embedding = embeddings.repeat(rows, 1)  # [N * A, width]
        query = torch.tanh(torch.einsum("nh,he->ne", pair_hidden, self.W))
        score = torch.einsum("ne,ne->n", query, pair_embedding) + self.bias
        return score.view(rows, actions)

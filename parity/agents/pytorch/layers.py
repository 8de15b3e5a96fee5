"""Building blocks shared by the candidates: token box, normalisation, action embedding and action head."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parity.agents.errors import ActionError, IgnoredTokensWarning
from parity.agents.interface import PADDING_BYTE
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.weights import draw_orthogonal, draw_uniform

_BYTES = 256
_EMBEDDING_LIMIT = 0.1


def warn_of_ignored_tokens(layers: int, width: int, height: int) -> None:
    """Say which tokens an encoder passes over; the caller sees to it that this is said once."""
    warnings.warn(
        f"ignored observation tokens outside the {width} x {height} box or with a feature id of {layers} or more "
        "(after remapping); this is said once per policy",
        IgnoredTokensWarning,
        stacklevel=3,
    )


class TokensToBox(nn.Module):
    """Tokens ``[N, M, 3]`` uint8 -> box ``[N, layers, width, height]`` of raw values.

    Coordinate byte and feature id together are one key into a table of 65,536 slots, which holds nibbles, feature
    remapping and bounds at once. Two extra slots around the box swallow padding and ignored tokens, so they touch no
    cell. The box is written channels-last, which convolutions on the CPU run about twice as fast.

    ``set_feature_remap`` comes before the first call.
    """

    slots: Tensor
    dtype_anchor: Tensor

    def __init__(self, layers: int, width: int, height: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers, self.width, self.height = layers, width, height
        self.size = layers * width * height
        self.has_warned = False
        self.register_buffer("slots", torch.empty(0, dtype=torch.int32), persistent=False)
        self.register_buffer("dtype_anchor", torch.empty(0, dtype=dtype), persistent=False)  # follows .to(dtype)

    def set_feature_remap(self, remap: Sequence[int]) -> None:
        """Adopt ``remap`` (256 ids; those at or above ``layers`` are ignored) as the meaning of a token's id."""
        padding, ignored = 0, self.size + 1
        byte = torch.arange(_BYTES, dtype=torch.int32)
        x, y = byte >> 4, byte & 0x0F
        feature = torch.tensor(list(remap), dtype=torch.int32)
        cell = 1 + (x * self.height + y) * self.layers
        cell[(x >= self.width) | (y >= self.height)] = ignored
        feature[feature >= self.layers] = ignored
        slots = (cell[:, None] + feature).clamp_(max=ignored)
        slots[PADDING_BYTE] = padding
        self.slots = slots.flatten().to(self.slots.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """Build the box; of two tokens for one cell and feature the larger raw value wins."""
        rows = tokens.shape[0]
        keys = torch.add(tokens[..., 1], tokens[..., 0].int(), alpha=_BYTES)
        slots = self.slots.index_select(0, keys.flatten()).view(rows, -1).long()
        if not self.has_warned and bool(slots.max() > self.size):
            self.has_warned = True
            warn_of_ignored_tokens(self.layers, self.width, self.height)
        cells = torch.zeros(rows, self.size + 2, dtype=torch.uint8, device=tokens.device)
        cells.scatter_reduce_(1, slots, tokens[..., 2], "amax")
        box = cells.narrow(1, 1, self.size).to(self.dtype_anchor.dtype)
        return box.view(rows, self.width, self.height, self.layers).permute(0, 3, 1, 2)


class Normalizer(nn.Module):
    """Divide each layer of a box ``[N, layers, width, height]`` by its feature's normalisation (1 without one)."""

    scale: Tensor

    def __init__(self, layers: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(layers, 1, 1, dtype=dtype), persistent=False)

    def set_normalizations(self, normalizations: Mapping[int, float]) -> None:
        """Set the layers named by id; ids without a layer are passed over, other layers keep theirs."""
        for layer, value in normalizations.items():
            if layer < len(self.scale):
                self.scale[layer] = value

    def forward(self, box: Tensor) -> Tensor:
        """Return the box, normalised."""
        return box / self.scale


class ActionEmbedding(nn.Module):
    """A table of action embeddings ``[num_embeddings, embedding_dim]``, read at the rows of the active actions.

    A full action name takes the next free row when first seen and keeps it for good.
    """

    active_rows: Tensor

    def __init__(self, settings: Component, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.where = settings.where
        shape = torch.Size((settings.sizes["num_embeddings"], settings.sizes["embedding_dim"]))
        weight = draw_orthogonal(shape, gain=1.0, seed=seed, component=settings.name, role="weight")
        weight.mul_(_EMBEDDING_LIMIT / weight.abs().max())
        self.weight = nn.Parameter(weight.to(dtype))
        self.row_of_name: dict[str, int] = {}
        self.register_buffer("active_rows", torch.empty(0, dtype=torch.int64), persistent=False)

    def activate(self, full_names: Sequence[str]) -> None:
        """Read the rows of ``full_names`` (one per logit, in logit order) from now on.

        Raises:
            ActionError: more names seen so far than rows; the previous activation stays in force.
        """
        rows = dict(self.row_of_name)
        for name in full_names:
            if rows.setdefault(name, len(rows)) >= len(self.weight):
                raise ActionError(
                    f"{self.where}: no row is left for action {name!r}, number {rows[name] + 1} seen so far; "
                    f"nn_params.num_embeddings is {len(self.weight)}, raise it"
                )
        self.row_of_name = rows
        self.active_rows = torch.tensor([rows[name] for name in full_names], device=self.weight.device)

    def restore(self, rows: Mapping[str, int]) -> None:
        """Adopt the rows of an earlier table; the next activation continues from them.

        Raises:
            ActionError: two names share a row, a row is left out, or there are more names than rows.
        """
        if set(rows.values()) != set(range(len(rows))) or len(rows) > len(self.weight):
            raise ActionError(
                f"{self.where}: rows {dict(rows)!r} are no assignment of names to the first rows of a table of "
                f"{len(self.weight)}; restore what action_rows() of the same agent returned"
            )
        self.row_of_name = dict(rows)

    def forward(self) -> Tensor:
        """The active rows ``[A, embedding_dim]``, in logit order."""
        return self.weight.index_select(0, self.active_rows)


class ActionHead(nn.Module):
    """Logits ``[N, A]``: the query ``tanh(hidden W)``, computed once per row, against each action's embedding."""

    def __init__(
        self, settings: Component, hidden_size: int, embedding_dim: int, *, seed: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(hidden_size)
        w = draw_uniform((hidden_size, embedding_dim), bound=bound, seed=seed, component=settings.name, role="W")
        bias = draw_uniform((1,), bound=bound, seed=seed, component=settings.name, role="bias")
        self.W = nn.Parameter(w.to(dtype))
        self.bias = nn.Parameter(bias.to(dtype))

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """``hidden [N, hidden_size]`` and ``rows [A, embedding_dim]`` -> ``[N, A]``."""
        return torch.addmm(self.bias, torch.tanh(hidden @ self.W), rows.t())

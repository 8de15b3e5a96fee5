"""Multi-head attention of few queries over many packed tokens."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from parity.agents.pytorch.packing import Packing


class Heads(Protocol):
    """How queries ``[N, Q, D]`` meet tokens ``[P, I]``: in which spaces of how many batches scores are taken.

    There are ``batches`` per row of tokens. Weights of keys and values are ``[D, I]``; head i owns D's i-th part.
    """

    batches: int

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens ``[P, I]`` -> ``[P, C]``, what ``keys_and_values`` is cut from."""
        ...

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Projected ``[n, width, C]`` -> keys ``[n * batches, c, width]`` and values ``[n * batches, width, c]``."""
        ...

    def enter(self, queries: Tensor) -> Tensor:
        """Queries ``[N, Q, D]`` -> ``[N * batches, q, c]``."""
        ...

    def leave(self, attended: Tensor, rows: int) -> Tensor:
        """What was attended to, ``[N * batches, q, c]`` -> ``[N, Q, D]``."""
        ...


class ProjectedHeads:
    """Each token is projected to keys and values, once for all layers: best for many queries."""

    def __init__(self, heads: int, k_weight: Tensor, v_weight: Tensor) -> None:
        self.batches = heads
        self.weight = torch.cat((k_weight, v_weight))

    def project(self, tokens: Tensor) -> Tensor:
        """See ``Heads``; keys and values take one matrix product."""
        return functional.linear(tokens, self.weight)

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Heads``; c is the head's width."""
        rows, width, _ = tokens.shape
        both = tokens.view(rows, width, 2, self.batches, -1).permute(2, 0, 3, 4, 1)
        keys, values = both.reshape(2, rows * self.batches, -1, width).unbind(0)
        return keys, values.transpose(1, 2)

    def enter(self, queries: Tensor) -> Tensor:
        """See ``Heads``; one batch per row and head."""
        rows, count, width = queries.shape
        split = queries.view(rows, count, self.batches, -1).transpose(1, 2)
        return split.reshape(rows * self.batches, count, width // self.batches)

    def leave(self, attended: Tensor, rows: int) -> Tensor:
        """See ``Heads``."""
        _, count, width = attended.shape
        return attended.view(rows, self.batches, count, width).transpose(1, 2).reshape(rows, count, -1)


class AbsorbedHeads:
    """Each query and each result is projected rather than each token: best for few queries.

    ``q (W_k t)`` is ``(q W_k) t`` and ``sum p (W_v t)`` is ``W_v (sum p t)``: the tokens are their own keys and values.
    """

    batches = 1

    def __init__(self, heads: int, k_weight: Tensor, v_weight: Tensor) -> None:
        self.heads = heads
        self.k_weight = k_weight.view(heads, -1, k_weight.shape[1])
        self.v_weight = v_weight.view(heads, -1, v_weight.shape[1]).transpose(1, 2)

    def project(self, tokens: Tensor) -> Tensor:
        """See ``Heads``; nothing is to be done."""
        return tokens

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Heads``; c is I."""
        return tokens.transpose(1, 2), tokens

    def enter(self, queries: Tensor) -> Tensor:
        """See ``Heads``; the heads' queries stand one after the other."""
        rows, count, _ = queries.shape
        split = queries.reshape(rows * count, self.heads, -1).transpose(0, 1)
        absorbed = torch.bmm(split, self.k_weight).view(self.heads, rows, count, -1)
        return absorbed.transpose(0, 1).reshape(rows, self.heads * count, -1)

    def leave(self, attended: Tensor, rows: int) -> Tensor:
        """See ``Heads``."""
        split = attended.view(rows, self.heads, -1, attended.shape[-1]).transpose(0, 1)
        count = split.shape[2]
        projected = torch.bmm(split.reshape(self.heads, rows * count, -1), self.v_weight)
        return projected.transpose(0, 1).reshape(rows, count, -1)


class TokenMemory:
    """Packed tokens, ready to be attended to by any number of layers.

    Args:
        heads: how queries meet tokens.
        tokens: ``[P, I]``, in the order of ``packing.tokens``.
        packing: which of them belong to which row.
    """

    def __init__(self, heads: Heads, tokens: Tensor, packing: Packing) -> None:
        self.heads = heads
        self.has_token = packing.has_token
        shapes = [(len(bias), bias.shape[-1]) for bias in packing.biases]
        parts = heads.project(tokens).split([rows * width for rows, width in shapes])
        self.groups = [
            (bias.repeat_interleave(heads.batches, 0), *heads.keys_and_values(part.view(*shape, -1)))
            for bias, part, shape in zip(packing.biases, parts, shapes, strict=True)
        ]

    def attend(self, queries: Tensor) -> Tensor:
        """Softmax attention of scaled queries; a row without a token gets zeros.

        Args:
            queries: ``[N, Q, D]``, rows in the packing's order, or ``[1, Q, D]`` for the same in every row.

        Returns:
            ``[N, Q, D]``.
        """
        rows = len(self.has_token)
        asked = self.heads.enter(queries.expand(rows, -1, -1)).split([len(bias) for bias, _, _ in self.groups])
        attended = [
            torch.bmm(torch.baddbmm(bias, part, keys).softmax(-1), values)
            for part, (bias, keys, values) in zip(asked, self.groups, strict=True)
        ]
        return self.heads.leave(torch.cat(attended), rows) * self.has_token

"""Negative controls of the attention pairs: rewrites that change no behaviour. Every check stays green."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.pytorch import packing
from parity.agents.pytorch.attention import CrossAttention, CrossLayer
from parity.agents.pytorch.token_memory import AbsorbedHeads, ProjectedHeads, TokenMemory
from parity.agents.pytorch.tokens import FourierTokens, TokenStrip
from parity.builtin.faults.latent_attn.catalogues import MED, SMALL, TINY
from parity.builtin.faults.latent_attn.cross_attention import plain_softmax, weigh
from parity.builtin.faults.latent_attn.self_attention import attend_by, join_and_read
from parity.faults.plant import Patcher

# Tokens


@TINY.control(why="what stands behind the last real token is masked")
def nothing_stripped(patch: Patcher) -> None:
    """All M slots are kept."""

    def make(original: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        def forward(self: TokenStrip, tokens: Tensor) -> tuple[Tensor, Tensor]:
            kept, mask = original(self, tokens)
            missing = tokens.shape[1] - kept.shape[1]
            ends = tokens[:, kept.shape[1] :]
            return torch.cat((kept, ends), dim=1), functional.pad(mask, (0, missing))

        return forward

    patch.wrap(TokenStrip, "forward", make)


@TINY.control(why="id 255 never has a layer, so no real token reads its row")
def row_of_unknown_features_trained(patch: Patcher) -> None:
    """The embedding has no padding_idx."""
    patch.built("candidate", lambda agent: setattr(agent.policy.fourier.attr_embeds, "padding_idx", None))


@TINY.control(why="a table of all bytes holds what each token's own byte gives")
def waves_of_each_token(patch: Patcher) -> None:
    """Waves are computed token by token, without a table."""

    def forward(self: FourierTokens, coordinates: Tensor, ids: Tensor, values: Tensor, mask: Tensor) -> Any:
        waves = []
        for places, last in zip((coordinates >> 4, coordinates & 15), self.last, strict=True):
            scaled = 2.0 * places.to(values.dtype) / last - 1.0
            angles = scaled.unsqueeze(-1) * self.frequencies
            waves += [angles.cos(), angles.sin()]
        return torch.cat((self.attr_embeds(ids.long()), *waves, values.unsqueeze(-1)), dim=-1), mask

    patch.attribute(FourierTokens, "forward", forward)


# Packing and heads


@TINY.control(why="how many rows share a group is a matter of speed")
def rows_packed_into_one_group(patch: Patcher) -> None:
    """All rows are as wide as the longest one."""
    patch.attribute(packing, "_CPU_GROUP", 1 << 20)


@TINY.control(why="a product with a sum of products may be taken in either order")
def tokens_projected_to_keys(patch: Patcher) -> None:
    """Each token is projected to keys and values, instead of the query and the result."""
    patch.built("candidate", lambda agent: setattr(agent.policy.cross_attention, "arrangement", ProjectedHeads))


@SMALL.control(why="a product with a sum of products may be taken in either order")
def queries_projected_to_tokens(patch: Patcher) -> None:
    """The queries and results are projected, instead of each token."""
    patch.built("candidate", lambda agent: setattr(agent.policy.cross_attention, "arrangement", AbsorbedHeads))


@MED.control(why="one product with two stacked weights is two products")
def keys_and_values_projected_apart(patch: Patcher) -> None:
    """Keys and values take one matrix product each."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def build(self: ProjectedHeads, heads: int, k_weight: Tensor, v_weight: Tensor) -> None:
            original(self, heads, k_weight, v_weight)
            self.project = lambda tokens: torch.cat([tokens @ w.t() for w in (k_weight, v_weight)], dim=-1)

        return build

    patch.wrap(ProjectedHeads, "__init__", make)


@SMALL.control(why="the masked softmax, spelled out", slower=True)
def attention_spelled_out(patch: Patcher) -> None:
    """Scores are exponentiated, masked by a product and divided by their sum."""

    def weights(scores: Tensor, hidden: Tensor) -> Tensor:
        highest = scores.masked_fill(hidden, -math.inf).amax(-1, keepdim=True)
        mass = (scores - highest).exp() * ~hidden
        return mass / mass.sum(-1, keepdim=True)

    weigh(patch, weights)


@SMALL.control(why="the same contractions, spelled in index letters")
def attention_as_einsum(patch: Patcher) -> None:
    """Scores and results are einsums."""

    def attend(self: TokenMemory, queries: Tensor) -> Tensor:
        rows = len(self.has_token)
        asked = self.heads.enter(queries.expand(rows, -1, -1)).split([len(bias) for bias, _, _ in self.groups])
        attended = [
            torch.einsum(
                "nqt,ntc->nqc", plain_softmax(torch.einsum("nqc,nct->nqt", part, keys), bias.isneginf()), values
            )
            for part, (bias, keys, values) in zip(asked, self.groups, strict=True)
        ]
        return self.heads.leave(torch.cat(attended), rows) * self.has_token

    patch.attribute(TokenMemory, "attend", attend)


class _PaddedMemory:
    """Keys and values ``[N, heads, S, d]`` of all slots, and the mask of the real ones; stands for a TokenMemory."""

    def __init__(self, keys: Tensor, values: Tensor, mask: Tensor) -> None:
        self.keys, self.values = keys, values
        self.is_empty = ~mask.any(1)
        # rows without a token may see anything, for their result is set to 0
        self.visible = (mask | self.is_empty[:, None])[:, None, None, :]

    def attend(self, queries: Tensor) -> Tensor:
        rows, heads = self.keys.shape[:2]
        split = queries.expand(rows, -1, -1).unflatten(-1, (heads, -1)).transpose(1, 2)
        found = functional.scaled_dot_product_attention(
            split, self.keys, self.values, attn_mask=self.visible, scale=1.0
        )
        return found.transpose(1, 2).flatten(2).masked_fill(self.is_empty[:, None, None], 0.0)


@MED.control(why="packing only spares the work that padding would take")
def tokens_not_packed(patch: Patcher) -> None:
    """Rows stay padded and in their order, and torch's attention masks the padding."""

    def forward(self: CrossAttention, features: Tensor, mask: Tensor) -> Tensor:
        tokens = self.token_norm(features)
        keys, values = (
            proj(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.k_proj, self.v_proj)
        )
        queries = self.query_tokens.expand(len(features), -1, -1)
        for layer in self.layers:
            queries = layer(queries, _PaddedMemory(keys, values, mask))
        return self.output_proj(self.final_norm(queries)).squeeze(1)

    patch.attribute(CrossAttention, "forward", forward)


@TINY.control(why="rows start from the same queries")
def queries_repeated_before_the_first_layer(patch: Patcher) -> None:
    """The first layer norms and projects each row's own copy of the queries."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, queries, memory: original(
            self, queries.repeat(len(memory.has_token) // len(queries), 1, 1), memory
        )

    patch.wrap(CrossLayer, "forward", make)


@TINY.control(why="a scale on the queries is a scale on the scores and on the queries' weight")
def scale_in_the_projection(patch: Patcher) -> None:
    """Queries are projected by the scaled weight."""

    def forward(self: CrossLayer, queries: Tensor, memory: TokenMemory) -> Tensor:
        asked = functional.linear(self.query_norm(queries), self.q_proj.weight * self.scale)
        queries = queries + self.attn_out_proj(memory.attend(asked))
        return queries + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(queries))))

    patch.attribute(CrossLayer, "forward", forward)


@TINY.control(why="a norm is what its formula says")
def norms_spelled_out(patch: Patcher) -> None:
    """Layer norms are written as means and variances."""

    class SpelledOut(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            centred = input - input.mean(-1, keepdim=True)
            return centred * (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias

    def change(agent: Any) -> None:
        for module in agent.policy.cross_attention.modules():
            if type(module) is nn.LayerNorm:
                module.__class__ = SpelledOut

    patch.built("candidate", change)


# Self attention


@MED.control(why="nothing reads the other rows of the last layer")
def last_layer_for_all_rows(patch: Patcher) -> None:
    """Every layer works for all rows, and the cls row is taken at the end."""
    join_and_read(patch, lambda cls, queries: (cls, queries), lambda rows: rows[:, 0])


@SMALL.control(why="rows are a set: attention among them knows no order")
def cls_put_last_and_read_last(patch: Patcher) -> None:
    """The cls token stands behind the queries, and its row is read."""
    join_and_read(patch, lambda cls, queries: (queries, cls), lambda rows: rows[:, -1])


@SMALL.control(why="torch's attention is a softmax between two products")
def self_attention_by_two_products(patch: Patcher) -> None:
    """Self attention is written out."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return (queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])).softmax(-1) @ values

    attend_by(patch, attend)

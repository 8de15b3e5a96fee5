"""Faults in the queries' attention to the tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from parity.agents.pytorch import attention, packing
from parity.agents.pytorch.attention import CrossAttention, CrossLayer
from parity.agents.pytorch.packing import Packing
from parity.agents.pytorch.token_memory import AbsorbedHeads, TokenMemory
from parity.builtin.faults.changes import nudged, with_sizes
from parity.builtin.faults.edits import edited
from parity.builtin.faults.latent_attn.catalogues import SMALL, TINY
from parity.faults.plant import Patcher

SCALE = "upstream history: attention scale missing"
MASK = "upstream history: attention mask dropped or inverted"
TRACKERS = "issue trackers of other attention implementations"
EMPTY_ROWS = "the agents' contract: a row without a real token gets an all-zero attention output"
COMPONENT = "obs_latent_query_attn"

_in_tiny = partial(TINY.fault, check="forward", component=COMPONENT, phase="forward")
_in_small = partial(SMALL.fault, check="forward", component=COMPONENT, phase="forward")
_in_backward = partial(TINY.fault, check="gradients", component=COMPONENT, phase="backward")


# Rows in groups


@_in_tiny(origin="planted by hand, and seen by no check at first")
def second_group_masked_as_the_first(patch: Patcher) -> None:
    """Of more rows than one group holds, the later groups hide the slots that the first group's rows lack."""
    wrong = edited(packing.pack, "inside >= visible[part]", "inside >= visible[: len(visible[part])]")
    patch.attribute(attention, "pack", wrong)


# Scores and their softmax


def _scale(patch: Patcher, scale: Callable[[CrossLayer], float]) -> None:
    """Scale the scores of each layer by ``scale(layer)``, which still knows its own scale."""

    def change(agent: Any) -> None:
        for layer in agent.policy.cross_attention.layers:
            layer.scale = scale(layer)

    patch.built("candidate", change)


@_in_tiny(origin=SCALE)
def attention_not_scaled(patch: Patcher) -> None:
    """Scores go into the softmax as they are."""
    _scale(patch, lambda layer: 1.0)


@_in_tiny(origin=SCALE)
def attention_scaled_by_the_whole_width(patch: Patcher) -> None:
    """Scores are divided by the square root of the width of all heads together."""
    _scale(patch, lambda layer: len(layer.q_proj.weight) ** -0.5)


@_in_tiny(origin=SCALE)
def attention_scaled_twice(patch: Patcher) -> None:
    """Queries are scaled, and the attention scales once more."""
    _scale(patch, lambda layer: layer.scale**2)


def plain_softmax(scores: Tensor, hidden: Tensor) -> Tensor:
    """Weights ``[n, q, width]`` of scores, 0 where ``hidden [n, 1, width]``."""
    return scores.masked_fill(hidden, -math.inf).softmax(-1)


def weigh(patch: Patcher, weights: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Attend with ``weights(scores, hidden)``, as ``plain_softmax`` has them."""

    def attend(self: TokenMemory, queries: Tensor) -> Tensor:
        rows = len(self.has_token)
        asked = self.heads.enter(queries.expand(rows, -1, -1)).split([len(bias) for bias, _, _ in self.groups])
        attended = [
            weights(part @ keys, bias.isneginf()) @ values
            for part, (bias, keys, values) in zip(asked, self.groups, strict=True)
        ]
        return self.heads.leave(torch.cat(attended), rows) * self.has_token

    patch.attribute(TokenMemory, "attend", attend)


@_in_tiny(origin=MASK)
def mask_not_applied_to_the_scores(patch: Patcher) -> None:
    """Each row attends to whatever lies behind its tokens."""
    weigh(patch, lambda scores, hidden: scores.softmax(-1))


@_in_tiny(origin=MASK)
def padding_weighs_a_little(patch: Patcher) -> None:
    """Hidden scores are lowered by 10 and not by infinity."""
    weigh(patch, lambda scores, hidden: (scores - 10.0 * hidden).softmax(-1))


@_in_tiny(origin=MASK)
def mask_applied_behind_the_softmax(patch: Patcher) -> None:
    """Hidden weights are zeroed after normalisation, so the others no longer sum to 1."""
    weigh(patch, lambda scores, hidden: scores.softmax(-1).masked_fill(hidden, 0.0))


@_in_small(origin=TRACKERS)
def softmax_over_the_queries(patch: Patcher) -> None:
    """Weights sum to 1 over the queries instead of over the tokens."""
    weigh(patch, lambda scores, hidden: scores.softmax(1).masked_fill(hidden, 0.0))


@_in_tiny(origin="other projects' trackers: fp16 where fp32 is meant")
def softmax_in_float32(patch: Patcher) -> None:
    """The softmax runs in float32 whatever the policy's dtype."""
    weigh(patch, lambda scores, hidden: plain_softmax(scores.float(), hidden).to(scores.dtype))


@_in_tiny(origin="other projects' trackers: dropout active in eval")
def dropout_on_the_attention(patch: Patcher) -> None:
    """Weights are dropped in every mode."""
    weigh(patch, lambda scores, hidden: functional.dropout(plain_softmax(scores, hidden), 0.1, training=True))


@_in_backward(origin=TRACKERS)
def attention_weights_detached(patch: Patcher) -> None:
    """Gradients reach the values only, never the scores."""
    weigh(patch, lambda scores, hidden: plain_softmax(scores, hidden).detach())


# Rows without a token


def _repack(patch: Patcher, change: Callable[[Packing], Packing]) -> None:
    def make(original: Callable[..., Packing]) -> Callable[..., Packing]:
        return lambda mask, dtype: change(original(mask, dtype))

    patch.wrap(attention, "pack", make)


@_in_tiny(origin=EMPTY_ROWS)
def rows_without_a_token_read_another_row(patch: Patcher) -> None:
    """What a row without a token attended to in its stead is not multiplied by 0."""
    _repack(patch, lambda packing: dataclasses.replace(packing, has_token=torch.ones_like(packing.has_token)))


@TINY.fault(origin="the agents' contract: a row that is all padding must give finite output", check="fields",
            component=COMPONENT, phase="rollout", raises=True)  # fmt: skip
def rows_without_a_token_are_nan(patch: Patcher) -> None:
    """All scores of a row without a token are minus infinity."""

    def change(packing: Packing) -> Packing:
        present = packing.has_token.split([len(bias) for bias in packing.biases])
        biases = [bias.where(has > 0, -math.inf) for bias, has in zip(packing.biases, present, strict=True)]
        return dataclasses.replace(packing, biases=tuple(biases))

    _repack(patch, change)


@_in_backward(origin=EMPTY_ROWS)
def rows_without_a_token_detached(patch: Patcher) -> None:
    """No gradient passes through a row without a token, though queries and MLP made its result."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: CrossAttention, features: Tensor, mask: Tensor) -> Tensor:
            found = original(self, features, mask)
            return torch.where(mask.any(1, keepdim=True), found, found.detach())

        return forward

    patch.wrap(CrossAttention, "forward", make)


# Heads, keys and values


def _build_heads(patch: Patcher, build: Callable[..., None]) -> None:
    """Build the heads by ``build(original, heads, number, k_weight, v_weight)``."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, number, k_weight, v_weight: build(original, self, number, k_weight, v_weight)

    patch.wrap(AbsorbedHeads, "__init__", make)


@_in_tiny(origin=TRACKERS)
def heads_split_the_other_way(patch: Patcher) -> None:
    """Keys are split as (d h), queries as (h d)."""

    def build(original: Any, heads: AbsorbedHeads, number: int, k_weight: Tensor, v_weight: Tensor) -> None:
        original(heads, number, k_weight, v_weight)
        heads.k_weight = k_weight.view(-1, number, k_weight.shape[1]).transpose(0, 1)

    _build_heads(patch, build)


@_in_tiny(origin=TRACKERS)
def keys_and_values_swapped(patch: Patcher) -> None:
    """Keys are projected by the values' weight, and values by the keys'."""
    _build_heads(patch, lambda original, heads, number, k, v: original(heads, number, v, k))


@_in_tiny(origin=TRACKERS)
def keys_used_as_values(patch: Patcher) -> None:
    """Values are projected by the keys' weight."""
    _build_heads(patch, lambda original, heads, number, k, v: original(heads, number, k, k))


@_in_tiny(origin="the smallest error that a weight copy cannot erase")
def one_weight_of_the_keys_one_ulp_off(patch: Patcher) -> None:
    """Keys are projected by one weight a single float32 ulp larger than the parameter says."""
    _build_heads(patch, lambda original, heads, number, k, v: original(heads, number, nudged(k), v))


@_in_backward(origin="other projects' trackers: one parameter frozen")
def keys_detached(patch: Patcher) -> None:
    """The keys' weight gets no gradient."""
    _build_heads(patch, lambda original, heads, number, k, v: original(heads, number, k.detach(), v))


@_in_tiny(origin="upstream history: sizes written into the agent")
def number_of_heads_written_out(patch: Patcher) -> None:
    """There are 4 heads whatever num_heads says; no parameter shows it."""
    with_sizes(patch, COMPONENT, num_heads=lambda _: 4)

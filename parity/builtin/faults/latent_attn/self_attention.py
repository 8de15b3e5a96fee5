"""Faults in the queries' attention to each other, and in what is read from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from parity.agents.pytorch import attention
from parity.agents.pytorch.attention import SelfAttention, SelfLayer
from parity.agents.pytorch.weights import draw_truncated_normal
from parity.builtin.faults.changes import NudgedLinear, become, with_sizes
from parity.builtin.faults.latent_attn.catalogues import MED, SMALL
from parity.builtin.faults.latent_attn.cross_layers import UnusedNorm
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
CLS = "upstream history: cls token taken from the end"
TRACKERS = "issue trackers of other attention implementations"
COMPONENT = "obs_latent_self_attn"

_in_small = partial(SMALL.fault, check="forward", component=COMPONENT, phase="forward")
_in_med = partial(MED.fault, check="forward", component=COMPONENT, phase="forward")


# The cls token


def join_and_read(
    patch: Patcher, join: Callable[[Tensor, Tensor], tuple[Tensor, ...]], read: Callable[[Tensor], Tensor]
) -> None:
    """Order ``join(cls, queries)`` along the rows, work for all of them, and project ``read(rows)``."""

    def forward(self: SelfAttention, queries: Tensor) -> Tensor:
        rows = torch.cat(join(self.cls_token.expand(len(queries), -1, -1), queries), dim=1)
        for layer in self.layers:
            rows = layer(rows, rows.shape[1])
        return self.output_proj(self.final_norm(read(rows)))

    patch.attribute(SelfAttention, "forward", forward)


@_in_small(origin=CLS)
def last_row_read(patch: Patcher) -> None:
    """The result is the last query's row."""
    join_and_read(patch, lambda cls, queries: (cls, queries), lambda rows: rows[:, -1])


@_in_small(origin=CLS)
def cls_put_last(patch: Patcher) -> None:
    """The cls token stands behind the queries, and the first row is read."""
    join_and_read(patch, lambda cls, queries: (queries, cls), lambda rows: rows[:, 0])


@_in_small(origin=UPSTREAM)
def rows_averaged(patch: Patcher) -> None:
    """The result is the mean of all rows."""
    join_and_read(patch, lambda cls, queries: (cls, queries), lambda rows: rows.mean(1))


@_in_small(origin=UPSTREAM)
def cls_left_out(patch: Patcher) -> None:
    """Queries attend to each other alone, and the first one is read."""
    join_and_read(patch, lambda cls, queries: (queries,), lambda rows: rows[:, 0])


@SMALL.fault(origin="other projects' trackers: one parameter frozen", check="gradients", component=COMPONENT,
             phase="backward")  # fmt: skip
def cls_detached(patch: Patcher) -> None:
    """The cls token gets no gradient."""
    join_and_read(patch, lambda cls, queries: (cls.detach(), queries), lambda rows: rows[:, 0])


@SMALL.fault(origin="upstream history: initial weights of hand-written agents", check="initialization",
             component=COMPONENT, phase="build")  # fmt: skip
def cls_drawn_like_the_queries(patch: Patcher) -> None:
    """The cls token starts truncated normal with deviation 0.02 instead of 1."""
    patch.attribute(attention, "draw_normal", partial(draw_truncated_normal, std=0.02))


# Attention


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries ``[N, heads, q, d]``, keys and values ``[N, heads, k, d]`` -> ``[N, heads, q, d]``."""


def attend_by(patch: Patcher, attend: Attend, *, residual: bool = True) -> None:
    """Let each layer attend by ``attend``, and add its input to the result or not."""

    def forward(self: SelfLayer, tokens: Tensor, count: int) -> Tensor:
        normed = self.norm(tokens)
        queries, keys, values = self.q_proj(normed[:, :count]), self.k_proj(normed), self.v_proj(normed)
        attended = attend(self._split(queries), self._split(keys), self._split(values))
        found = self.attn_out_proj(attended.transpose(1, 2).flatten(2))
        return tokens[:, :count] + found if residual else found

    patch.attribute(SelfLayer, "forward", forward)


_sdpa = functional.scaled_dot_product_attention


@_in_small(origin="upstream history: attention mask where none belongs")
def self_attention_causal(patch: Patcher) -> None:
    """A row sees itself and the rows before it, and cls only itself."""
    attend_by(patch, partial(_sdpa, is_causal=True))


@_in_small(origin=TRACKERS)
def rows_blind_to_themselves(patch: Patcher) -> None:
    """No row sees itself."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        mask = ~torch.eye(queries.shape[2], keys.shape[2], dtype=torch.bool)
        return _sdpa(queries, keys, values, attn_mask=mask)

    attend_by(patch, attend)


@_in_small(origin="upstream history: attention scale missing")
def self_attention_scaled_by_the_whole_width(patch: Patcher) -> None:
    """Scores are divided by the square root of the width of all heads together."""
    attend_by(patch, lambda q, k, v: _sdpa(q, k, v, scale=(q.shape[1] * q.shape[3]) ** -0.5))


@_in_small(origin=TRACKERS)
def self_attention_over_the_heads(patch: Patcher) -> None:
    """Rows and heads change places, so that the heads of one row attend to each other."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        count = queries.shape[2]
        asked, read, given = (part[:, :, :count].transpose(1, 2) for part in (queries, keys, values))
        return _sdpa(asked, read, given).transpose(1, 2)

    attend_by(patch, attend)


@_in_small(origin="other projects' trackers: fp16 where fp32 is meant")
def self_attention_in_float32(patch: Patcher) -> None:
    """Attention runs in float32 whatever the policy's dtype."""
    attend_by(patch, lambda q, k, v: _sdpa(q.float(), k.float(), v.float()).to(q.dtype))


@_in_small(origin=UPSTREAM)
def self_attention_without_residual(patch: Patcher) -> None:
    """What was attended to replaces the rows."""
    attend_by(patch, _sdpa, residual=False)


@_in_small(origin=TRACKERS)
def self_heads_split_the_other_way(patch: Patcher) -> None:
    """Queries, keys and values are split as (d h), and joined as (h d)."""
    patch.attribute(
        SelfLayer, "_split", lambda self, projected: projected.unflatten(-1, (-1, self.heads)).movedim(3, 1)
    )


@_in_small(origin=UPSTREAM)
def rows_not_normed(patch: Patcher) -> None:
    """The second layer projects the rows as the first left them."""
    patch.built("candidate", become("self_attention.layers.1.norm", UnusedNorm))


@_in_small(origin=UPSTREAM)
def cls_row_not_normed(patch: Patcher) -> None:
    """The output projection reads the row as the last layer left it."""
    patch.built("candidate", become("self_attention.final_norm", UnusedNorm))


@_in_small(origin="other projects' trackers: dropout active in eval")
def dropout_behind_self_attention(patch: Patcher) -> None:
    """The result is dropped in part, in every mode."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, queries: functional.dropout(original(self, queries), 0.1, training=True)

    patch.wrap(SelfAttention, "forward", make)


# Layers


@SMALL.fault(origin="upstream history: one layer fewer", check="construction", component=COMPONENT, phase="build")
def one_self_layer_fewer(patch: Patcher) -> None:
    """There is one layer less than num_layers."""
    with_sizes(patch, COMPONENT, num_layers=lambda layers: layers - 1)


@MED.fault(
    origin="other projects' trackers: weights tied by aliasing",
    check="construction",
    component=COMPONENT,
    phase="build",
)
def self_layers_share_their_weights(patch: Patcher) -> None:
    """All layers are the first one."""

    def change(agent: Any) -> None:
        layers = agent.policy.self_attention.layers
        for index in range(1, len(layers)):
            layers[index] = layers[0]

    patch.built("candidate", change)


@_in_med(origin=TRACKERS)
def later_layers_read_the_first_ones_keys(patch: Patcher) -> None:
    """Keys and values are always of the rows as they came in."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: SelfAttention, queries: Tensor) -> Tensor:
            came = torch.cat((self.cls_token.expand(len(queries), -1, -1), queries), dim=1)
            rows = came
            for layer in self.layers:
                assert isinstance(layer, SelfLayer)
                asked, read = layer.norm(rows), layer.norm(came)
                queries, keys, values = layer.q_proj(asked), layer.k_proj(read), layer.v_proj(read)
                attended = _sdpa(layer._split(queries), layer._split(keys), layer._split(values))
                rows = rows + layer.attn_out_proj(attended.transpose(1, 2).flatten(2))
            return self.output_proj(self.final_norm(rows[:, 0]))

        return forward

    patch.wrap(SelfAttention, "forward", make)


@_in_med(origin="the smallest error that a weight copy cannot erase")
def one_weight_of_the_last_layer_one_ulp_off(patch: Patcher) -> None:
    """The last layer projects its values by one weight a single float32 ulp larger than the parameter says."""
    patch.built("candidate", become("self_attention.layers.2.v_proj.0", NudgedLinear))

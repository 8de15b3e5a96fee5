"""Faults around the queries' attention to the tokens: norms, residuals, MLP, and which queries there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.pytorch.attention import CrossAttention, CrossLayer
from parity.agents.pytorch.token_memory import TokenMemory
from parity.builtin.faults.changes import become
from parity.builtin.faults.latent_attn.catalogues import MED, SMALL, TINY
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
COMPONENT = "obs_latent_query_attn"

_in_tiny = partial(TINY.fault, check="forward", component=COMPONENT, phase="forward")
_in_small = partial(SMALL.fault, check="forward", component=COMPONENT, phase="forward")
_in_med = partial(MED.fault, check="forward", component=COMPONENT, phase="forward")


# Norms


class UnusedNorm(nn.LayerNorm):
    """A LayerNorm that is never called."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input."""
        return input


class _BatchNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        spread, mean = torch.var_mean(input, dim=0, correction=0, keepdim=True)
        return (input - mean) / (spread + self.eps).sqrt() * self.weight + self.bias


@_in_tiny(origin=UPSTREAM)
def tokens_not_normed(patch: Patcher) -> None:
    """Keys and values are projected from the bare features."""
    patch.built("candidate", become("cross_attention.token_norm", UnusedNorm))


@_in_tiny(origin=UPSTREAM)
def queries_of_the_second_layer_not_normed(patch: Patcher) -> None:
    """The second layer's queries are projected as the first layer left them."""
    patch.built("candidate", become("cross_attention.layers.1.query_norm", UnusedNorm))


@_in_tiny(origin=UPSTREAM)
def input_of_the_mlp_not_normed(patch: Patcher) -> None:
    """The first layer's MLP reads the queries as they are."""
    patch.built("candidate", become("cross_attention.layers.0.mlp_norm", UnusedNorm))


@_in_tiny(origin=UPSTREAM)
def result_not_normed(patch: Patcher) -> None:
    """The output projection reads the queries as the last layer left them."""
    patch.built("candidate", become("cross_attention.final_norm", UnusedNorm))


@_in_tiny(origin="other projects' trackers: normalisation over the batch")
def tokens_normed_over_the_batch(patch: Patcher) -> None:
    """Each feature is normed over the batch's tokens, so a result depends on its neighbours."""
    patch.built("candidate", become("cross_attention.token_norm", _BatchNorm))


@_in_tiny(origin="other projects' trackers: another default of the norm's epsilon")
def norms_with_epsilon_1e_6(patch: Patcher) -> None:
    """Norms add 1e-6 to the variance instead of 1e-5."""

    def change(agent: Any) -> None:
        for module in agent.policy.cross_attention.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6

    patch.built("candidate", change)


@_in_med(origin="other projects' trackers: weights tied by aliasing")
def query_norms_shared_by_the_layers(patch: Patcher) -> None:
    """Every layer norms its queries with the first one's weights; its own parameters are there, and unused."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: CrossAttention, features: Tensor, mask: Tensor) -> Tensor:
            own = [layer.query_norm for layer in self.layers]
            try:
                for layer in self.layers:
                    layer.query_norm = own[0]
                return original(self, features, mask)
            finally:
                for layer, norm in zip(self.layers, own, strict=True):
                    layer.query_norm = norm

        return forward

    patch.wrap(CrossAttention, "forward", make)


# Residuals and MLP


def _behind_attention(patch: Patcher, rest: Callable[[CrossLayer, Tensor, Tensor], Tensor]) -> None:
    """Continue each layer with ``rest(layer, queries, attended)``."""

    def forward(self: CrossLayer, queries: Tensor, memory: TokenMemory) -> Tensor:
        attended = self.attn_out_proj(memory.attend(self.q_proj(self.query_norm(queries)) * self.scale))
        return rest(self, queries, attended)

    patch.attribute(CrossLayer, "forward", forward)


def _mlp(layer: CrossLayer, queries: Tensor, activation: Callable[[Tensor], Tensor] = functional.gelu) -> Tensor:
    return layer.mlp_out(activation(layer.mlp_in(layer.mlp_norm(queries))))


@_in_tiny(origin=UPSTREAM)
def attention_without_residual(patch: Patcher) -> None:
    """What was attended to replaces the queries."""
    _behind_attention(patch, lambda layer, queries, attended: attended + _mlp(layer, attended))


@_in_tiny(origin=UPSTREAM)
def mlp_without_residual(patch: Patcher) -> None:
    """The MLP's output replaces the queries."""
    _behind_attention(patch, lambda layer, queries, attended: _mlp(layer, queries + attended))


@_in_tiny(origin=UPSTREAM)
def mlp_beside_the_attention(patch: Patcher) -> None:
    """The MLP reads the queries as they were before attention, as parallel blocks do."""
    _behind_attention(patch, lambda layer, queries, attended: queries + attended + _mlp(layer, queries))


@_in_tiny(origin="other projects' trackers: GELU's tanh approximation")
def gelu_approximated(patch: Patcher) -> None:
    """The MLP uses the tanh form of GELU."""
    gelu = partial(functional.gelu, approximate="tanh")
    _behind_attention(patch, lambda layer, queries, attended: (q := queries + attended) + _mlp(layer, q, gelu))


@_in_tiny(origin=UPSTREAM)
def relu_for_gelu(patch: Patcher) -> None:
    """The MLP rectifies, as all other layers do."""
    _behind_attention(patch, lambda layer, queries, attended: (q := queries + attended) + _mlp(layer, q, torch.relu))


@_in_tiny(origin=UPSTREAM)
def result_rectified(patch: Patcher) -> None:
    """A ReLU follows the output projection, as it follows the other Linear layers."""
    patch.built("candidate", lambda agent: agent.policy.cross_attention.output_proj.append(nn.ReLU()))


# Queries


@_in_med(origin="issue trackers of other attention implementations")
def queries_mixed_over_the_batch(patch: Patcher) -> None:
    """Behind each layer every row gets the mean of all rows' queries, as one set of queries for all."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: CrossLayer, queries: Tensor, memory: TokenMemory) -> Tensor:
            found = original(self, queries, memory)
            return found.mean(0, keepdim=True).expand_as(found)

        return forward

    patch.wrap(CrossLayer, "forward", make)


@_in_small(origin=UPSTREAM)
def first_query_taken_alone(patch: Patcher) -> None:
    """Self attention is given one query instead of all."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, features, mask: original(self, features, mask)[:, :1]

    patch.wrap(CrossAttention, "forward", make)


@_in_med(origin="upstream history: one layer fewer")
def last_cross_layer_not_run(patch: Patcher) -> None:
    """The last layer has its parameters, and is left out."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: CrossAttention, features: Tensor, mask: Tensor) -> Tensor:
            layers = self.layers
            try:
                self.layers = layers[:-1]
                return original(self, features, mask)
            finally:
                self.layers = layers

        return forward

    patch.wrap(CrossAttention, "forward", make)


@TINY.fault(origin="other projects' trackers: part of a network under no_grad", check="gradients", component=COMPONENT,
            phase="backward")  # fmt: skip
def cross_attention_under_no_grad(patch: Patcher) -> None:
    """The encoder runs without recording gradients and is never trained."""
    patch.wrap(CrossAttention, "forward", torch.no_grad())

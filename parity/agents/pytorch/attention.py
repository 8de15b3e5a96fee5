"""Attention encoders: learned queries gather from tokens, then exchange what they found with a cls token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.errors import ConfigError
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.packing import pack
from parity.agents.pytorch.stages import encoder_linear
from parity.agents.pytorch.token_memory import AbsorbedHeads, ProjectedHeads, TokenMemory
from parity.agents.pytorch.tokens import EMBEDDING_STD
from parity.agents.pytorch.weights import draw_normal, draw_truncated_normal


class CrossLayer(nn.Module):
    """Attention of the queries over the tokens, then an MLP; both are added to the queries.

    Raises:
        ConfigError: the MLP would not be a whole number wide.
    """

    def __init__(self, settings: Component, index: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        role, drawn = f"layers.{index}", {"seed": seed, "dtype": dtype}
        sizes = settings.sizes
        width, inner = sizes["query_token_dim"], _inner_width(settings)
        self.scale = (width // sizes["num_heads"]) ** -0.5
        self.query_norm = nn.LayerNorm(width, dtype=dtype)
        self.q_proj = encoder_linear(settings, f"{role}.q_proj", (width, width), bias=False, **drawn)
        self.attn_out_proj = encoder_linear(settings, f"{role}.attn_out_proj", (width, width), **drawn)
        self.mlp_norm = nn.LayerNorm(width, dtype=dtype)
        self.mlp_in = encoder_linear(settings, f"{role}.mlp_in", (width, inner), **drawn)
        self.mlp_out = encoder_linear(settings, f"{role}.mlp_out", (inner, width), **drawn)

    def forward(self, queries: Tensor, memory: TokenMemory) -> Tensor:
        """``[N, Q, D]`` -> ``[N, Q, D]``; queries ``[1, Q, D]`` stand for those of every row."""
        asked = self.q_proj(self.query_norm(queries)) * self.scale
        queries = queries + self.attn_out_proj(memory.attend(asked))
        return queries + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(queries))))


class CrossAttention(nn.Module):
    """Learned queries over masked tokens ``[N, S, I]`` -> ``[N, Q, out]``, or ``[N, out]`` where Q is 1.

    Raises:
        ConfigError: the heads do not divide the queries' width.
    """

    def __init__(self, settings: Component, in_features: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        sizes, drawn = settings.sizes, {"seed": seed, "dtype": dtype}
        width, count, self.heads = sizes["query_token_dim"], sizes["num_query_tokens"], sizes["num_heads"]
        _check_heads(settings, self.heads, width)
        self.token_norm = nn.LayerNorm(in_features, dtype=dtype)
        self.k_proj = encoder_linear(settings, "k_proj", (in_features, width), bias=False, **drawn)
        self.v_proj = encoder_linear(settings, "v_proj", (in_features, width), bias=False, **drawn)
        shape = (1, count, width)
        queries = draw_truncated_normal(
            shape, std=EMBEDDING_STD, seed=seed, component=settings.name, role="query_tokens"
        )
        self.query_tokens = nn.Parameter(queries.to(dtype))
        self.layers = nn.ModuleList(CrossLayer(settings, index, **drawn) for index in range(sizes["num_layers"]))
        self.final_norm = nn.LayerNorm(width, dtype=dtype)
        self.output_proj: nn.Module = nn.Identity()
        if sizes["out_dim"] != width:
            self.output_proj = encoder_linear(settings, "output_proj", (width, sizes["out_dim"]), **drawn)
        # Multiplications per token with either arrangement of the heads.
        asked = 2 * sizes["num_layers"] * count
        projected, absorbed = 2 * width * in_features + asked * width, asked * self.heads * in_features
        self.arrangement = AbsorbedHeads if absorbed < projected else ProjectedHeads

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features ``[N, S, I]`` and mask bool ``[N, S]``, true = real token -> ``[N, Q, out]`` or ``[N, out]``."""
        packing = pack(mask, features.dtype)
        tokens = self.token_norm(features.flatten(0, 1).index_select(0, packing.tokens))
        memory = TokenMemory(self.arrangement(self.heads, self.k_proj.weight, self.v_proj.weight), tokens, packing)
        queries = self.query_tokens
        for layer in self.layers:
            queries = layer(queries, memory)
        found = self.output_proj(self.final_norm(queries)).index_select(0, packing.position)
        return found.squeeze(1)


class SelfLayer(nn.Module):
    """Attention among the rows' own tokens, added to them."""

    def __init__(self, settings: Component, index: int, width: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        role, drawn = f"layers.{index}", {"seed": seed, "dtype": dtype}
        self.heads = settings.sizes["num_heads"]
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.q_proj = encoder_linear(settings, f"{role}.q_proj", (width, width), bias=False, **drawn)
        self.k_proj = encoder_linear(settings, f"{role}.k_proj", (width, width), bias=False, **drawn)
        self.v_proj = encoder_linear(settings, f"{role}.v_proj", (width, width), bias=False, **drawn)
        self.attn_out_proj = encoder_linear(settings, f"{role}.attn_out_proj", (width, width), **drawn)

    def forward(self, tokens: Tensor, count: int) -> Tensor:
        """``[N, K, D]`` -> ``[N, count, D]``, the result for the first ``count`` tokens."""
        normed = self.norm(tokens)
        attended = functional.scaled_dot_product_attention(
            self._split(self.q_proj(normed[:, :count])),
            self._split(self.k_proj(normed)),
            self._split(self.v_proj(normed)),
        )
        return tokens[:, :count] + self.attn_out_proj(attended.transpose(1, 2).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SelfAttention(nn.Module):
    """Attention among ``[N, Q, D]`` and a learned cls token -> ``[N, out]``, read off the cls token.

    Raises:
        ConfigError: the heads do not divide ``in_features``.
    """

    def __init__(self, settings: Component, in_features: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        sizes, drawn = settings.sizes, {"seed": seed, "dtype": dtype}
        _check_heads(settings, sizes["num_heads"], in_features)
        cls = draw_normal((1, 1, in_features), seed=seed, component=settings.name, role="cls_token")
        self.cls_token = nn.Parameter(cls.to(dtype))
        self.layers = nn.ModuleList(
            SelfLayer(settings, index, in_features, **drawn) for index in range(sizes["num_layers"])
        )
        self.final_norm = nn.LayerNorm(in_features, dtype=dtype)
        self.output_proj = encoder_linear(settings, "output_proj", (in_features, sizes["out_dim"]), **drawn)

    def forward(self, queries: Tensor) -> Tensor:
        """The last layer works for the cls token alone: nothing reads the others any more."""
        tokens = torch.cat((self.cls_token.expand(len(queries), -1, -1), queries), dim=1)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, tokens.shape[1])
        return self.output_proj(self.final_norm(self.layers[-1](tokens, 1).squeeze(1)))


def _inner_width(settings: Component) -> int:
    inner = settings.sizes["query_token_dim"] * settings.ratios["mlp_ratio"]
    if inner < 1 or not inner.is_integer():
        raise ConfigError(
            f"{settings.where}: mlp_ratio times query_token_dim is {inner:g}; give a ratio that makes it a whole "
            "number of at least 1"
        )
    return int(inner)


def _check_heads(settings: Component, heads: int, width: int) -> None:
    if width % heads:
        raise ConfigError(f"{settings.where}: num_heads is {heads}; give a divisor of the width, {width}")

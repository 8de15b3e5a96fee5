"""The references of ``latent_attn_tiny``, ``latent_attn_small`` and ``latent_attn_med``, transcribed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.interface import EnvironmentDescription
from transcriptions.box import normalizations, real_tokens
from transcriptions.recurrent import RecurrentActorCritic

WIDTH = 32


class LatentAttn(RecurrentActorCritic):
    """Learned queries attend to the tokens, then, when there are ``self_layers``, to each other and to a cls token."""

    sources: ClassVar[Mapping[str, str]] = {
        **RecurrentActorCritic.sources,
        "feature_embeddings": "obs_fourier.attr_embeds",
        "query_tokens": "obs_latent_query_attn.query_tokens",
        "token_norm": "obs_latent_query_attn.token_norm",
        "k_proj": "obs_latent_query_attn.k_proj",
        "v_proj": "obs_latent_query_attn.v_proj",
        "cross": "obs_latent_query_attn.layers",
        "cross_norm": "obs_latent_query_attn.final_norm",
        "cross_out": "obs_latent_query_attn.output_proj",
        "cls_token": "obs_latent_self_attn.cls_token",
        "among": "obs_latent_self_attn.layers",
        "among_norm": "obs_latent_self_attn.final_norm",
        "among_out": "obs_latent_self_attn.output_proj",
    }

    divisors: Tensor
    frequencies: Tensor

    def __init__(
        self,
        environment: EnvironmentDescription,
        *,
        embedding: int,
        frequencies: int,
        queries: int,
        cross_layers: int,
        self_layers: int,
        heads: int,
    ) -> None:
        super().__init__(environment, input_size=128, hidden_size=128)
        self.environment, self.heads = environment, heads
        self.register_buffer("divisors", normalizations(environment, 256))
        self.register_buffer("frequencies", 2.0 ** torch.arange(frequencies))
        self.feature_embeddings = nn.Embedding(256, embedding, padding_idx=255)
        features = embedding + 4 * frequencies + 1
        self.query_tokens = nn.Parameter(torch.empty(1, queries, WIDTH))
        self.token_norm = nn.LayerNorm(features)
        self.k_proj = nn.Linear(features, WIDTH, bias=False)
        self.v_proj = nn.Linear(features, WIDTH, bias=False)
        self.cross = nn.ModuleList(CrossLayer(heads) for _ in range(cross_layers))
        self.cross_norm = nn.LayerNorm(WIDTH)
        if not self_layers:
            self.cross_out = nn.Linear(WIDTH, 128)
            return
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.among = nn.ModuleList(SelfLayer(heads) for _ in range(self_layers))
        self.among_norm = nn.LayerNorm(WIDTH)
        self.among_out = nn.Linear(WIDTH, 128)

    def encode(self, tokens: Tensor) -> Tensor:
        real = real_tokens(tokens, self.environment)
        used = real.any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        real = real[:, :length]
        place, feature, value = tokens[:, :length].unbind(-1)

        dtype = self.divisors.dtype
        x = 2.0 * (place >> 4).to(dtype) / (self.environment.obs_width - 1) - 1.0
        y = 2.0 * (place & 15).to(dtype) / (self.environment.obs_height - 1) - 1.0
        x, y = x.unsqueeze(-1) * self.frequencies, y.unsqueeze(-1) * self.frequencies
        feature = feature.long()
        value = (value / self.divisors[feature]).unsqueeze(-1)
        parts = [self.feature_embeddings(feature), x.cos(), x.sin(), y.cos(), y.sin(), value]
        memory = self.token_norm(torch.cat(parts, dim=-1))

        keys, values = self.k_proj(memory), self.v_proj(memory)
        rows = self.query_tokens.expand(len(tokens), -1, -1)
        for layer in self.cross:
            rows = layer(rows, keys, values, real)
        rows = self.cross_norm(rows)
        if rows.shape[1] == 1:
            return self.cross_out(rows).squeeze(1)
        rows = torch.cat([self.cls_token.expand(len(tokens), -1, -1), rows], dim=1)
        for layer in self.among:
            rows = layer(rows)
        return self.among_out(self.among_norm(rows))[:, 0]


class CrossLayer(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm = nn.LayerNorm(WIDTH)
        self.q_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.attn_out_proj = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.mlp_in = nn.Linear(WIDTH, 4 * WIDTH)
        self.mlp_out = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, real: Tensor) -> Tensor:
        x = x + self.attn_out_proj(attention(self.q_proj(self.query_norm(x)), keys, values, self.heads, real))
        return x + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(x))))


class SelfLayer(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(WIDTH)
        self.q_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.attn_out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attn_out_proj(attention(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.heads))


def attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int, real: Tensor | None = None) -> Tensor:
    """Multi-head softmax attention ``[N, Q, D]`` over ``[N, S, D]``; a row without a real token gets zeros."""
    q, k, v = (x.view(len(x), x.shape[1], heads, -1).transpose(1, 2) for x in (queries, keys, values))
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if real is None:
        weights = scores.softmax(-1)
    else:
        hidden = ~real[:, None, None, :]
        weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0.0)
    return (weights @ v).transpose(1, 2).flatten(2)

"""``latent_attn_tiny``, ``_small`` and ``_med``: attention over observation tokens, an LSTM, a critic and an actor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parity.agents.errors import ConfigError
from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.attention import CrossAttention, SelfAttention
from parity.agents.pytorch.graph import Component, Node
from parity.agents.pytorch.heads import HEADS, ActorCriticHeads
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.tokens import FourierTokens, TokenStrip, ValueNormalizer

_TOKENS: Mapping[str, Node] = {
    "_obs_": Node("ObsTokenPadStrip"),
    "obs_normalizer": Node("ObsAttrValNorm", ("_obs_",)),
    "obs_fourier": Node("ObsAttrEmbedFourier", ("obs_normalizer",)),
    "obs_latent_query_attn": Node("ObsLatentAttn", ("obs_fourier",)),
}
_CROSS_ONLY: Mapping[str, Node] = {
    **_TOKENS,
    "_core_": Node("LSTM", ("obs_latent_query_attn",)),
    **HEADS,
}
_CROSS_AND_SELF: Mapping[str, Node] = {
    **_TOKENS,
    "obs_latent_self_attn": Node("ObsSelfAttn", ("obs_latent_query_attn",)),
    "_core_": Node("LSTM", ("obs_latent_self_attn",)),
    **HEADS,
}


class _LatentAttn(ActorCriticHeads, PyTorchAgentMixin, LSTMWrapper):
    """What the three agents share: all but their name and whether self attention follows cross attention."""

    def build_encoder(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """See ``PyTorchAgentMixin``."""
        cross, self_ = parts["obs_latent_query_attn"], parts.get("obs_latent_self_attn")
        _check_queries(cross, single=self_ is None)
        width, height = env.obs_width, env.obs_height
        self.tokens = TokenStrip(env.num_layers, width, height)
        self.normalizer = ValueNormalizer(dtype=dtype)
        self.fourier = FourierTokens(parts["obs_fourier"], width, height, seed=seed, dtype=dtype)
        self.cross_attention = CrossAttention(cross, self.fourier.width, seed=seed, dtype=dtype)
        if self_ is None:
            self.self_attention = None
            return cross.sizes["out_dim"]
        self.self_attention = SelfAttention(self_, cross.sizes["out_dim"], seed=seed, dtype=dtype)
        return self_.sizes["out_dim"]

    def set_feature_encoding(self, remap: Sequence[int], normalizations: Mapping[int, float]) -> None:
        """Hand the remapping to the strip and the normalisations to the normaliser."""
        self.tokens.set_feature_remap(remap)
        self.normalizer.set_normalizations(normalizations)

    def encode_observations(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> ``[N, F]``."""
        found = self.cross_attention(*self.fourier(*self.normalizer(*self.tokens(tokens))))
        return found if self.self_attention is None else self.self_attention(found)


class LatentAttnTiny(_LatentAttn):
    """The hand-written twin of ``fixtures/agents/latent_attn_tiny.yaml``: one query, no self attention."""

    AGENT_TYPE = "latent_attn_tiny"
    GRAPH = _CROSS_ONLY


class LatentAttnSmall(_LatentAttn):
    """The hand-written twin of ``fixtures/agents/latent_attn_small.yaml``."""

    AGENT_TYPE = "latent_attn_small"
    GRAPH = _CROSS_AND_SELF


class LatentAttnMed(_LatentAttn):
    """The hand-written twin of ``fixtures/agents/latent_attn_med.yaml``: the small one's graph, with larger sizes."""

    AGENT_TYPE = "latent_attn_med"
    GRAPH = _CROSS_AND_SELF


def _check_queries(cross: Component, *, single: bool) -> None:
    """One query goes to the core as it is; several need self attention to become one row."""
    count = cross.sizes["num_query_tokens"]
    if single != (count == 1):
        wanted = "1, nothing here combines several" if single else "at least 2, self attention is among several"
        raise ConfigError(f"{cross.where}: num_query_tokens is {count}; give {wanted}")

"""Faults in which tokens count as real, and in the normalisation of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from parity.agents.interface import PADDING_BYTE
from parity.agents.pytorch.latent_attn import LatentAttnTiny
from parity.agents.pytorch.tokens import TokenStrip, ValueNormalizer
from parity.builtin.faults.latent_attn.catalogues import TINY
from parity.faults.plant import Patcher

UPSTREAM_TOKENS = "upstream history: token handling of the observation shapers"
UPSTREAM_FEATURES = "upstream history: feature remapping for new environments"
UPSTREAM_VALUES = "upstream history: normalisation ignored or in the wrong dtype"
CONTRACT = "the agents' contract: what the token strip gives"
_GLOBAL_BYTE = 0xFE

_of_strip = partial(TINY.fault, check="forward", component="_obs_", phase="forward")
_of_normalizer = partial(TINY.fault, check="forward", component="obs_normalizer", phase="forward")

Stripped = tuple[Tensor, Tensor]
"""Tokens ``[N, S, 3]`` and mask ``[N, S]``."""


def _after_strip(patch: Patcher, change: Callable[[TokenStrip, Tensor, Tensor, Tensor], Stripped]) -> None:
    """Alter what the strip returns, by ``change(strip, observation, tokens, mask)``."""

    def make(original: Callable[..., Stripped]) -> Callable[..., Stripped]:
        return lambda self, observation: change(self, observation, *original(self, observation))

    patch.wrap(TokenStrip, "forward", make)


def _also_real(patch: Patcher, more: Callable[[Tensor], Tensor]) -> None:
    """Count tokens as real where ``more(tokens)`` is true as well."""
    _after_strip(patch, lambda _strip, _observation, tokens, mask: (tokens, mask | more(tokens)))


def _cut(patch: Patcher, length: Callable[[Tensor], int]) -> None:
    """Keep the first ``length(mask)`` columns of what the strip returns, at least 1."""

    def change(_strip: TokenStrip, _observation: Tensor, tokens: Tensor, mask: Tensor) -> Stripped:
        kept = max(1, length(mask))
        return tokens[:, :kept], mask[:, :kept]

    _after_strip(patch, change)


# The mask


@_of_strip(origin="upstream history: attention mask dropped")
def mask_dropped(patch: Patcher) -> None:
    """Every slot counts as a real token."""
    _also_real(patch, lambda tokens: tokens[..., 0] >= 0)


@_of_strip(origin="upstream history: attention mask inverted")
def mask_inverted(patch: Patcher) -> None:
    """Real tokens are hidden, and padding is attended to, as with masks that say where not to look."""
    _after_strip(patch, lambda _strip, _observation, tokens, mask: (tokens, ~mask))


@_of_strip(origin=UPSTREAM_TOKENS)
def ignored_tokens_attended_to(patch: Patcher) -> None:
    """All but padding is real: tokens outside the box and of unknown features are warned of, and read."""
    _also_real(patch, lambda tokens: tokens[..., 0] != PADDING_BYTE)


@_of_strip(origin=UPSTREAM_TOKENS)
def global_tokens_attended_to(patch: Patcher) -> None:
    """Global tokens (0xFE) are real tokens of cell (15, 14)."""
    _also_real(patch, lambda tokens: tokens[..., 0] == _GLOBAL_BYTE)


@_of_strip(origin=UPSTREAM_TOKENS)
def padding_told_by_its_feature(patch: Patcher) -> None:
    """A slot is padding only if its feature id is 0xFF too, so that padding over stale tokens is attended to."""
    _also_real(patch, lambda tokens: (tokens[..., 0] == PADDING_BYTE) & (tokens[..., 1] != PADDING_BYTE))


# How far it is stripped


@_of_strip(origin=CONTRACT)
def stripped_by_the_first_row(patch: Patcher) -> None:
    """The batch is cut behind the first row's last token, and longer rows lose theirs."""
    _cut(patch, lambda mask: int((mask[0] * torch.arange(1, mask.shape[1] + 1)).max()))


@_of_strip(origin=CONTRACT)
def stripped_at_the_first_gap(patch: Patcher) -> None:
    """The batch is cut at the first column without a real token, though more may follow."""
    _cut(patch, lambda mask: int(mask.any(0).long().cumprod(0).sum()))


@_of_strip(origin="upstream history: sizes written into the agent")
def tokens_cut_at_64(patch: Patcher) -> None:
    """No more than 64 tokens take part."""
    _cut(patch, lambda _mask: 64)


@TINY.fault(
    origin="upstream history: sizes written into the agent",
    check="metamorphic",
    component="full_log_probs",
    phase="rollout",
)
def token_limit_of_200_written_out(patch: Patcher) -> None:
    """Slots behind the 200th are not read; the default environment has no more."""

    def make(original: Callable[..., Stripped]) -> Callable[..., Stripped]:
        return lambda self, observation: original(self, observation[:, :200])

    patch.wrap(TokenStrip, "forward", make)


# Remapped ids


@TINY.fault(origin=UPSTREAM_FEATURES, check="features", component="_obs_", phase="rollout")
def ids_embedded_before_remapping(patch: Patcher) -> None:
    """The remapping decides what is ignored, but tokens keep their environment's id."""

    def change(_strip: TokenStrip, observation: Tensor, tokens: Tensor, mask: Tensor) -> Stripped:
        ids = observation[:, : tokens.shape[1], 1]
        return torch.stack((tokens[..., 0], ids, tokens[..., 2]), dim=-1), mask

    _after_strip(patch, change)


@TINY.fault(origin=UPSTREAM_FEATURES, check="features", component="_obs_", phase="rollout")
def ignored_before_remapping(patch: Patcher) -> None:
    """An id without a layer is told before it is remapped, so new ids of known features are lost."""

    def change(strip: TokenStrip, observation: Tensor, tokens: Tensor, mask: Tensor) -> Stripped:
        return tokens, mask & (observation[:, : tokens.shape[1], 1] < strip.layers)

    _after_strip(patch, change)


@TINY.fault(origin="upstream history: input observation mutated in place", check="features",
            component="input not changed", phase="rollout")  # fmt: skip
def remapped_ids_written_into_the_observation(patch: Patcher) -> None:
    """The caller's observation gets the remapped ids, which a second reading remaps again."""

    def change(_strip: TokenStrip, observation: Tensor, tokens: Tensor, mask: Tensor) -> Stripped:
        observation[:, : tokens.shape[1]] = tokens
        return tokens, mask

    _after_strip(patch, change)


# The warning


@TINY.fault(origin="upstream history: warning raised once per call", check="fields",
            component="warnings for an unknown id in four calls", phase="rollout")  # fmt: skip
def warned_in_each_call(patch: Patcher) -> None:
    """That it has warned is forgotten."""

    def change(strip: TokenStrip, _observation: Tensor, tokens: Tensor, mask: Tensor) -> Stripped:
        strip.has_warned = False
        return tokens, mask

    _after_strip(patch, change)


@TINY.fault(origin=UPSTREAM_TOKENS, check="fields", component="warnings without ignored tokens", phase="rollout")
def warned_of_padding(patch: Patcher) -> None:
    """Padding counts as a token outside the box."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def set_feature_remap(self: TokenStrip, remap: Sequence[int]) -> None:
            original(self, remap)
            self.codes.view(256, 256)[PADDING_BYTE] = 512

        return set_feature_remap

    patch.wrap(TokenStrip, "set_feature_remap", make)


# Values


def _divide(patch: Patcher, divide: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Normalise by ``divide(values, scale)``, uint8 and the policy's dtype, instead."""

    def forward(self: ValueNormalizer, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        coordinates, ids, values = tokens.unbind(-1)
        return coordinates, ids, divide(values, self.scale[ids.long()]), mask

    patch.attribute(ValueNormalizer, "forward", forward)


@_of_normalizer(origin=UPSTREAM_VALUES)
def values_not_normalised(patch: Patcher) -> None:
    """The raw value is passed on."""
    _divide(patch, lambda values, scale: values.to(scale.dtype))


@_of_normalizer(origin=UPSTREAM_VALUES)
def values_normalised_in_uint8(patch: Patcher) -> None:
    """Normalised values are stored in the tokens' own uint8, which cuts their fractions off."""
    _divide(patch, lambda values, scale: (values / scale).to(torch.uint8).to(scale.dtype))


@_of_normalizer(origin=UPSTREAM_VALUES)
def values_normalised_in_float32(patch: Patcher) -> None:
    """The division runs in float32 whatever the policy's dtype."""
    _divide(patch, lambda values, scale: (values / scale.float()).to(scale.dtype))


@TINY.fault(origin=UPSTREAM_FEATURES, check="features", component="obs_normalizer", phase="rollout")
def normalised_by_the_unmapped_id(patch: Patcher) -> None:
    """A normalisation is kept under the environment's own id, while tokens carry the one it is remapped to."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def set_feature_encoding(
            self: LatentAttnTiny, remap: Sequence[int], normalizations: Mapping[int, float]
        ) -> None:
            own = {list(remap).index(target): value for target, value in normalizations.items()}
            original(self, remap, own)

        return set_feature_encoding

    patch.wrap(LatentAttnTiny, "set_feature_encoding", make)

"""Faults of the attention pairs planted in the reference, and in what both sides share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.agents import seeding
from parity.agents.component import attention, initialization, tokens
from parity.agents.interface import Feature
from parity.agents.metta_agent import MettaAgent
from parity.agents.pytorch import weights
from parity.builtin.faults.latent_attn.catalogues import SMALL, TINY
from parity.faults.plant import Patcher

CROSS, SELF = "obs_latent_query_attn", "obs_latent_self_attn"

_of_reference = partial(TINY.fault, place="reference", check="forward", phase="forward")
_of_both = partial(TINY.fault, place="both")


@_of_reference(origin="upstream history: attention mask dropped", component=CROSS)
def reference_attends_to_padding(patch: Patcher) -> None:
    """The reference's attention is not masked."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda queries, keys, values, heads, mask=None: original(queries, keys, values, heads)

    patch.wrap(attention, "attend", make)


@_of_reference(origin="the agents' contract: a row without a real token gets zeros", component=CROSS)
def reference_averages_padding(patch: Patcher) -> None:
    """A row without a real token gets the mean of its padding's values in the reference."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor) -> Tensor:
            found = original(queries, keys, values, heads, mask)
            return torch.where(mask.any(1)[:, None, None], found, values.mean(1, keepdim=True))

        return attend

    patch.wrap(attention, "attend", make)


@_of_reference(origin="the agents' contract: nothing depends on how far a batch is stripped", component="_obs_")
def reference_strips_by_the_first_row(patch: Patcher) -> None:
    """The reference cuts the batch behind its first row's last token."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(self: tokens.ObsTokenPadStrip, observation: Tensor) -> tuple[Tensor, Tensor]:
            kept, mask = original(self, observation)
            length = max(1, int((mask[0] * torch.arange(1, mask.shape[1] + 1)).max()))
            return kept[:, :length], mask[:, :length]

        return forward

    patch.wrap(tokens.ObsTokenPadStrip, "forward", make)


@SMALL.fault(origin="upstream history: cls token taken from the end", place="reference", check="forward",
             component=SELF, phase="forward")  # fmt: skip
def reference_reads_the_first_query(patch: Patcher) -> None:
    """The reference puts the cls token first, and reads the row behind it."""

    def forward(self: attention.ObsSelfAttn, rows: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(rows), -1, -1), rows], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.output_proj(self.final_norm(x))[:, 1]

    patch.attribute(attention.ObsSelfAttn, "forward", forward)


@_of_both(origin="upstream history: normalisation ignored", check="features", component="obs_normalizer",
          phase="rollout")  # fmt: skip
def facade_drops_normalisations(patch: Patcher) -> None:
    """Neither policy hears of a new environment's normalisations."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def activate_observations(self: MettaAgent, features: Mapping[str, Feature]) -> None:
            original(self, {name: dataclasses.replace(f, normalization=1.0) for name, f in features.items()})

        return activate_observations

    patch.wrap(MettaAgent, "activate_observations", make)


@_of_both(origin="other projects' trackers: seeds silently constant", check="initialization", component=CROSS,
          phase="build")  # fmt: skip
def seeding_ignores_the_role(patch: Patcher) -> None:
    """All parameters of a component start the same stream on both sides, so that equal shapes start equal."""

    def parameter_generator(seed: int, component: str, _role: str) -> torch.Generator:
        return seeding.parameter_generator(seed, component, "")

    patch.attribute(initialization, "parameter_generator", parameter_generator)
    patch.attribute(weights, "parameter_generator", parameter_generator)

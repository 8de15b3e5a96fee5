"""Each reference written out as a user would without components, so that no ratio comes from a slow reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from parity.agents.interface import EnvironmentDescription
from transcriptions.example import Example
from transcriptions.fast import Fast
from transcriptions.latent_attn import LatentAttn
from transcriptions.recurrent import RecurrentActorCritic

#: Pair -> its reference, transcribed, with arbitrary weights.
TRANSCRIPTIONS: Mapping[str, Callable[[EnvironmentDescription], RecurrentActorCritic]] = {
    "example": Example,
    "fast": Fast,
    "latent_attn_tiny": partial(
        LatentAttn, embedding=10, frequencies=4, queries=1, cross_layers=2, self_layers=0, heads=4
    ),
    "latent_attn_small": partial(
        LatentAttn, embedding=8, frequencies=8, queries=10, cross_layers=1, self_layers=2, heads=4
    ),
    "latent_attn_med": partial(
        LatentAttn, embedding=12, frequencies=8, queries=10, cross_layers=3, self_layers=3, heads=8
    ),
}


def transcribe(pair: str, environment: EnvironmentDescription, reference: nn.Module) -> RecurrentActorCritic:
    """The transcription of a pair's reference, with the reference's weights and in its dtype."""
    given = {name.partition("components.")[2]: value for name, value in reference.named_parameters()}
    transcription = TRANSCRIPTIONS[pair](environment).to(next(reference.parameters()).dtype)
    with torch.no_grad():
        for name, parameter in transcription.named_parameters():
            attribute, dot, rest = name.partition(".")
            parameter.copy_(given.pop(transcription.sources[attribute] + dot + rest))
    assert not given, f"the transcription of {pair} lacks {sorted(given)}"
    return transcription

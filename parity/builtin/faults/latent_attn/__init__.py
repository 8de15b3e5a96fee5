"""The catalogues of the attention pairs, filled: importing the modules declares their faults and controls."""

from __future__ import annotations

from parity.builtin.faults.latent_attn import (
    controls,
    cross_attention,
    cross_layers,
    fourier,
    self_attention,
    shared,
    tokens,
    weights,
)
from parity.builtin.faults.latent_attn.catalogues import MED, SMALL, TINY

__all__ = ["DECLARING", "MED", "SMALL", "TINY"]

#: The modules whose import declares something.
DECLARING = (controls, cross_attention, cross_layers, fourier, self_attention, shared, tokens, weights)

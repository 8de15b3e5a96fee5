"""The catalogues of the attention pairs, empty: the modules beside this one fill them, and the package imports them."""

from parity.builtin.faults.equivalents import EQUIVALENT
from parity.builtin.faults.sources import SOURCES
from parity.faults.registry import Catalogue


def _catalogue(pair: str) -> Catalogue:
    return Catalogue(pair, sources=SOURCES.get(pair), equivalent=EQUIVALENT)


TINY = _catalogue("latent_attn_tiny")
SMALL = _catalogue("latent_attn_small")
MED = _catalogue("latent_attn_med")

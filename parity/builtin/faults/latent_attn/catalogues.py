"""The catalogues of the attention pairs, empty: the modules beside this one fill them, and the package imports them."""

from parity.faults.registry import Catalogue

TINY = Catalogue("latent_attn_tiny")
SMALL = Catalogue("latent_attn_small")
MED = Catalogue("latent_attn_med")

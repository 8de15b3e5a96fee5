"""The catalogue of pair `example`, filled: importing the modules declares their faults and controls."""

from __future__ import annotations

from parity.builtin.faults.example import centre, controls, layers
from parity.builtin.faults.example.catalogue import CATALOGUE

__all__ = ["CATALOGUE", "DECLARING"]

#: The modules whose import declares something.
DECLARING = (centre, controls, layers)

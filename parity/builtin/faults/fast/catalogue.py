"""The catalogue of pair `fast`, empty: the modules beside this one fill it, and the package imports them all."""

from parity.builtin.faults.equivalents import EQUIVALENT
from parity.builtin.faults.sources import SOURCES
from parity.faults.registry import Catalogue

CATALOGUE = Catalogue("fast", sources=SOURCES["fast"], equivalent=EQUIVALENT)

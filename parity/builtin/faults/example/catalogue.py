"""The catalogue of pair `example`, empty: the modules beside this one fill it, and the package imports them all."""

from parity.builtin.faults.equivalents import EQUIVALENT
from parity.builtin.faults.sources import SOURCES
from parity.faults.registry import Catalogue

CATALOGUE = Catalogue("example", sources=SOURCES["example"], equivalent=EQUIVALENT)
